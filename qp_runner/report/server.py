"""A store behind a tracking server, read through MLflow's client."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qp_runner.report.source import PICTURES, StoredRun
from qp_runner.tracking.client import client
from qp_runner.tracking.probe import check_answers
from qp_runner.tracking.records import ID_TAG

PAGE = 1000
THREADS = 8  # most of the time is waiting


class Server:
    """The store at `uri`, any that MLflow knows. Raises what MLflow raises, after seconds where nobody answers."""

    def __init__(self, uri: str) -> None:
        check_answers(uri)
        self._client = client(uri)

    def runs(self) -> list[StoredRun]:
        """See `Source`."""
        experiments = [each.experiment_id for each in _all_pages(self._client.search_experiments)]
        own = f"tags.`{ID_TAG}` LIKE '%'"
        found = _all_pages(self._client.search_runs, experiment_ids=experiments, filter_string=own)
        return [_stored(run) for run in found]

    def history(self, wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, int, float, int]]:
        """See `Source`."""
        asked = [(run_id, name) for name, runs in wanted.items() for run_id in runs]
        with ThreadPoolExecutor(THREADS) as pool:
            answers = pool.map(lambda each: self._client.get_metric_history(*each), asked)
            for (run_id, name), values in zip(asked, answers, strict=True):
                yield from ((run_id, name, each.step, each.value, each.timestamp) for each in values)

    def pictures(self, run_id: str) -> dict[str, bytes]:
        """See `Source`."""
        return downloaded(f"{self._client.get_run(run_id).info.artifact_uri}/{PICTURES}", self._client.tracking_uri)


def downloaded(folder: str, tracking_uri: str | None = None) -> dict[str, bytes]:
    """The PNG files in a folder of artifacts, by name; `folder` is a URI."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    with tempfile.TemporaryDirectory() as here:
        found = {}
        for each in list_artifacts(artifact_uri=folder, tracking_uri=tracking_uri):
            name = Path(each.path).name
            if name.endswith(".png"):
                uri = f"{folder}/{name}"
                path = download_artifacts(artifact_uri=uri, dst_path=here, tracking_uri=tracking_uri)
                found[Path(name).stem] = Path(path).read_bytes()
        return found


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(info.run_id, info.status, info.start_time, info.end_time, data.tags, data.params, data.metrics)


def _all_pages(search: Callable[..., Any], **query: Any) -> list[Any]:
    """What a paged search of the client finds, page after page."""
    found = page = search(max_results=PAGE, **query)
    while page.token:
        page = search(max_results=PAGE, page_token=page.token, **query)
        found = [*found, *page]
    return list(found)
