"""Records in an MLflow store, through its client alone: no global state, so any number of runs may share a process."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from qp_runner.tracking.base import RunInfo, Status
from qp_runner.tracking.buffer import Buffer, Record
from qp_runner.tracking.client import client, key, param, patiently, system_tags, tags
from qp_runner.tracking.color import color
from qp_runner.tracking.environment import git_commit, with_environment
from qp_runner.tracking.store import prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

PARAMS_PER_CALL, METRICS_PER_CALL = 100, 1000  # MLflow's limits
ERROR_LENGTH = 500


class MlflowTracker:
    """One run in the store at `uri`, below `parent_run_id` if given (and then in the parent's experiment).

    A store that fails never ends a run: the first failure is logged as a warning, later ones are not, and the numbers
    are offered again until `finish`. Names keep to MLflow's alphabet, over-long parameters are cut with a mark, and an
    infinite value is stored as NaN (SQL has no infinity, and MLflow's stand-in 1.8e308 ruins every chart).
    """

    def __init__(self, uri: str, info: RunInfo, parent_run_id: str | None = None) -> None:
        self._uri, self._warned = uri, False
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._buffer: Buffer | None = None
        self._guarded(lambda: self._start(info, parent_run_id))

    @property
    def run_id(self) -> str:
        """MLflow's identifier of the run; empty where the store could not be opened."""
        return self._run_id

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Takes the values; they are in the store two seconds later."""
        if self._buffer is not None:
            self._buffer.add(values, step=step)

    def text(self, name: str, content: str) -> None:
        """Keeps a text as an artifact."""
        self._with(lambda store: store.log_text(self._run_id, content, name))

    def artifact(self, path: Path, folder: str = "") -> Path:
        """Copies a file or folder to the run's artifacts."""
        self._with(lambda store: store.log_artifact(self._run_id, str(path), folder or None))
        return path

    def flush(self) -> None:
        """Sends the buffered metrics now."""
        if self._buffer is not None:
            self._buffer.flush()

    def finish(self, status: Status, error: str | None = None) -> None:
        """Sends the rest, then the status, the tag `error` (its first line) and the whole error as `error.txt`."""
        if self._buffer is None:
            return
        buffer, self._buffer = self._buffer, None
        lost = buffer.close()
        if lost:
            log.warning("the store %s lacks the last %d numbers of this run; its files have them", self._uri, lost)
        if error is not None:
            self._with(lambda store: store.set_tag(self._run_id, "error", _first_line(error)))
            self._with(lambda store: store.log_text(self._run_id, error, "error.txt"))
        self._with(lambda store: store.set_terminated(self._run_id, status))

    def _start(self, info: RunInfo, parent_run_id: str | None) -> None:
        store = client(self._uri)
        if parent_run_id is None:
            experiment = prepare(self._uri, info.experiment)
        else:
            parent: Run = patiently(lambda: store.get_run(parent_run_id))
            experiment = str(parent.info.experiment_id)
        own = with_environment(info.tags)
        shade = color(own.get("schedule") or info.name)
        own |= system_tags(note=_note(own), color=shade, commit=git_commit(), parent_run_id=parent_run_id)
        run: Run = patiently(lambda: store.create_run(experiment, run_name=info.name, tags=tags(own)))
        self._client, self._run_id = store, str(run.info.run_id)
        self._buffer = Buffer(self._send, on_error=self._warn, size=METRICS_PER_CALL)
        for chunk in _chunks(info.params, PARAMS_PER_CALL):
            self._with(partial(_log_params, self._run_id, chunk))

    def _send(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric

        store = self._client
        assert store is not None
        metrics = [Metric(key(each.name), _finite(each.value), each.time_ms, each.step) for each in records]
        patiently(lambda: store.log_batch(self._run_id, metrics=metrics))

    def _with(self, call: "Callable[[MlflowClient], object]") -> None:
        store = self._client
        if store is not None:
            self._guarded(lambda: patiently(lambda: call(store)))

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            reason = f"{type(error).__name__}: {_first_line(str(error))}"
            log.warning("the MLflow store %s fails (%s); the run goes on, its files have everything", self._uri, reason)


def _log_params(run_id: str, params: Mapping[str, str], store: "MlflowClient") -> None:
    from mlflow.entities import Param

    store.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])


def _chunks(params: Mapping[str, str], size: int) -> Iterator[dict[str, str]]:
    items = iter({key(name): param(str(value)) for name, value in params.items()}.items())
    while chunk := dict(islice(items, size)):
        yield chunk


def _note(known: Mapping[str, str]) -> str:
    """The description on the run's page, in Markdown."""
    lines = [f"**{known['order']}**"] if known.get("order") else []
    facts = [f"{name} `{known[name]}`" for name in ("model", "data", "schedule", "seed", "variant") if known.get(name)]
    lines += [" · ".join(facts)] if facts else []
    return "\n\n".join([*lines, f"```\n{known['command']}\n```"])


def _finite(value: float) -> float:
    return math.nan if math.isinf(value) else value


def _first_line(error: str) -> str:
    return (error.strip().splitlines() or [""])[0][:ERROR_LENGTH]
