import re
from itertools import pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.tracking.client import ATTEMPTS, key, patiently


@pytest.mark.parametrize(
    ("message", "failures", "calls"),
    [
        ("(sqlite3.OperationalError) database is locked", 4, 5),
        ("(sqlite3.OperationalError) database is locked", 1000, ATTEMPTS),
        ("no such table", 1, 1),
    ],
)
def test_only_a_locked_database_is_tried_again_ever_more_slowly_and_not_for_ever(
    message: str, failures: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("qp_runner.tracking.client.time.sleep", pauses.append)
    call = Mock(side_effect=[*[RuntimeError(message)] * failures, "written"])
    if failures < calls:
        assert patiently(call) == "written"
    else:
        with pytest.raises(RuntimeError, match=re.escape(message)):
            patiently(call)
    assert call.call_count == calls == len(pauses) + 1
    assert all(later > earlier for earlier, later in pairwise(pauses[::2]))


@settings(deadline=None, max_examples=50)  # the first example imports MLflow
@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(key(name))
    _validate_param_name(key(name))
    assert 1 <= len(key(name)) <= 250


@pytest.mark.parametrize("name", ["val/accuracy", "final/footprint_total_mb", "model.sites.weight", "a b-c:d"])
def test_a_good_name_is_kept(name: str) -> None:
    assert key(name) == name
