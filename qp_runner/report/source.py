"""Read-only access to an MLflow store, with its runs in order."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qp_runner.errors import ConfigError
from qp_runner.report.sweeps import PARENT
from qp_runner.tracking.client import client, patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
PAGE = 1000
PICTURES = "pictures"


class Source:
    """An existing store, read-only: a missing database is not created."""

    def __init__(self, store: str) -> None:
        """`store` is the path of an SQLite file or any MLflow URI. ConfigError (`--store`) if it can't be read."""
        self.name = store
        path = _path(store)
        if path is not None and not path.is_file():
            raise ConfigError("--store", store, "no such file; a run writes it: `scripts/run`, or `qp-runner -m …`")
        uri = store if path is None else f"{SQLITE}{path.resolve()}"
        try:
            self._client: MlflowClient = client(uri)
            self._experiments = self._experiment_ids()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError("--store", store, f"an MLflow store that can be read ({reason})") from error

    def runs(self) -> list["Run"]:
        """All runs but deleted ones, in order."""
        return in_order([run for page in self._pages() for run in page])

    def history(self, run_id: str, metric: str) -> Sequence["Metric"]:
        """All values of a metric of a run."""
        return patiently(lambda: list(self._client.get_metric_history(run_id, metric)))

    def pictures(self, run_id: str) -> dict[str, bytes]:
        """The PNG files among a run's pictures, by name; empty if they can't be read, which the report tolerates."""
        found: dict[str, bytes] = {}
        try:
            with tempfile.TemporaryDirectory() as folder:
                for each in self._client.list_artifacts(run_id, PICTURES):
                    if each.path.endswith(".png"):
                        path = Path(self._client.download_artifacts(run_id, each.path, folder))
                        found[path.stem] = path.read_bytes()
        except Exception as error:
            log.warning("the pictures of run %s can't be read: %s", run_id, error)
        return found

    def _experiment_ids(self) -> list[str]:
        found, token = list[str](), None
        while True:
            page = self._client.search_experiments(max_results=PAGE, page_token=token)
            found += [str(each.experiment_id) for each in page]
            token = page.token
            if not token:
                return found

    def _pages(self) -> Iterator[Sequence["Run"]]:
        token = None
        while self._experiments:
            page = self._client.search_runs(self._experiments, max_results=PAGE, page_token=token)
            yield page
            token = page.token
            if not token:
                return


def _path(store: str) -> Path | None:
    """The file of an SQLite store; None for other stores."""
    if store.startswith(SQLITE):
        return Path(store.removeprefix(SQLITE))
    return None if "://" in store else Path(store)


def _tag(run: "Run", name: str) -> str:
    return str(run.data.tags.get(name, ""))


def in_order(runs: Sequence["Run"]) -> list["Run"]:
    """Sweeps by start; in each sweep the jobs by number, or by start if they have none."""
    began: dict[str, int] = {}

    def place(run: "Run") -> tuple[int, int, int, str, str]:
        job, start = _tag(run, "job"), run.info.start_time or 0
        number = int(job) if job.isdecimal() else -1
        return began[_sweep(run)], number, start, _tag(run, "seed"), run.info.run_id

    for run in runs:
        start = run.info.start_time or 0
        began[_sweep(run)] = min(began.get(_sweep(run), start), start)
    return sorted(runs, key=place)


def _sweep(run: "Run") -> str:
    """The run's parent, or itself if it has none."""
    return _tag(run, PARENT) or run.info.run_id
