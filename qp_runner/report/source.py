"""Read-only access to an MLflow store."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qp_runner.errors import ConfigError
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
        uri = store
        if store.startswith(SQLITE) or "://" not in store:
            path = Path(store.removeprefix(SQLITE))
            if not path.is_file():
                raise ConfigError("--store", store, "no such file; a run writes it: `scripts/run`, or `qp-runner -m …`")
            uri = f"{SQLITE}{path.resolve()}"
        try:
            self._client: MlflowClient = client(uri)
            self._experiments = [each.experiment_id for each in _all_pages(self._client.search_experiments)]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError("--store", store, f"an MLflow store that can be read ({reason})") from error

    def runs(self) -> list["Run"]:
        """All runs but deleted ones."""
        return _all_pages(self._client.search_runs, experiment_ids=self._experiments)

    def history(self, run_id: str, metric: str) -> Sequence["Metric"]:
        """All values of a metric of a run."""
        return patiently(lambda: self._client.get_metric_history(run_id, metric))

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


def _all_pages(search: Callable[..., Any], **query: Any) -> list[Any]:
    """What a paged search of the client finds, page after page."""
    found = page = search(max_results=PAGE, **query)
    while page.token:
        page = search(max_results=PAGE, page_token=page.token, **query)
        found = [*found, *page]
    return list(found)
