"""A run's MLflow records, kept by the process beside this one."""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from qp_runner.tracking.base import RunInfo, Status, Tracker
from qp_runner.tracking.beside import Beside, EndedError, current
from qp_runner.tracking.mlflow_tracker import MlflowTracker

_trackers: dict[str, MlflowTracker] = {}
"""Of the runs that are open; in the process beside."""


def mlflow_tracker(uri: str, info: RunInfo, parent_run_id: str | None = None) -> Tracker:
    """A tracker for one run in the store at `uri`, at work beside this process where it can be."""
    helper = current()
    make = MlflowTracker if helper is None else partial(MlflowBeside, helper)
    return make(uri, info, parent_run_id)


class MlflowBeside:
    """Hands everything on to an `MlflowTracker` in the process beside this one, and waits for nothing but `flush`.

    A file has to stay where it is until it has been copied: `Trackers` hands on the copy that a run's folder keeps.
    """

    def __init__(self, helper: Beside, uri: str, info: RunInfo, parent_run_id: str | None = None) -> None:
        self._helper, self._name = helper, uuid.uuid4().hex
        helper.send(_open, self._name, uri, info, parent_run_id)

    @property
    def run_id(self) -> str:
        """MLflow's identifier of the run; empty where the store could not be opened. Waits for it."""
        with suppress(EndedError):
            return self._helper.ask(_run_id, self._name)
        return ""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Takes the values; they are in the store two seconds later."""
        self._helper.send(_call, self._name, "metrics", dict(values), step=step)

    def text(self, name: str, content: str) -> None:
        """Keeps a text as an artifact."""
        self._helper.send(_call, self._name, "text", name, content)

    def artifact(self, path: Path, folder: str = "") -> Path:
        """Copies a file or folder to the run's artifacts."""
        self._helper.send(_call, self._name, "artifact", path.resolve(), folder)
        return path

    def flush(self) -> None:
        """Sends the buffered metrics, and waits until they are there."""
        with suppress(EndedError):
            self._helper.ask(_call, self._name, "flush")

    def finish(self, status: Status, error: str | None = None) -> None:
        """Has the rest sent, then the status."""
        self._helper.send(_finish, self._name, status, error)


def flush_all() -> None:
    """Sends what runs that never ended have left: their process was killed."""
    for tracker in _trackers.values():
        tracker.flush()


def _open(name: str, uri: str, info: RunInfo, parent_run_id: str | None) -> None:
    _trackers[name] = MlflowTracker(uri, info, parent_run_id)


def _run_id(name: str) -> str:
    return _trackers[name].run_id


def _call(name: str, method: str, *args: Any, **kwargs: Any) -> None:
    getattr(_trackers[name], method)(*args, **kwargs)


def _finish(name: str, status: Status, error: str | None) -> None:
    tracker = _trackers.pop(name, None)
    if tracker is not None:  # a second call changes nothing
        tracker.finish(status, error)
