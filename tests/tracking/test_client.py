import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.tracking.client import ATTEMPTS, key, patiently


class Locked:
    """Says that the database is locked, a number of times, then answers."""

    def __init__(self, times: int, message: str = "(sqlite3.OperationalError) database is locked") -> None:
        self.times, self.message, self.calls = times, message, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise RuntimeError(self.message)
        return "written"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("qp_runner.tracking.client.time.sleep", pauses.append)
    return pauses


def test_a_locked_database_is_tried_again_ever_more_slowly(pauses: list[float]) -> None:
    assert patiently(Locked(4)) == "written"
    assert len(pauses) == 4
    assert pauses[-1] > pauses[0]


def test_a_database_that_stays_locked_is_given_up(pauses: list[float]) -> None:
    call = Locked(1000)
    with pytest.raises(RuntimeError, match="locked"):
        patiently(call)
    assert call.calls == ATTEMPTS


def test_any_other_error_is_raised_at_once(pauses: list[float]) -> None:
    call = Locked(1, "no such table")
    with pytest.raises(RuntimeError, match="no such table"):
        patiently(call)
    assert (call.calls, pauses) == (1, [])


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
