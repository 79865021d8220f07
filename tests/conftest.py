import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # for busy machines
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own, as the working folder."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if "joblib.externals.loky" in sys.modules:  # its workers outlive a sweep, and the folder they were started in
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)
