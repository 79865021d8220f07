"""What a run says of itself, and the one interface to whatever keeps its records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RunInfo:
    """A run's name, the experiment it belongs to, and what is known of it before it starts.

    Attributes:
        name: how a person tells the run from its neighbours, e.g. `p_q_wf · seed 0`.
        experiment: the group of comparable runs it belongs to: the task's name.
        tags: what runs are chosen and grouped by.
        params: the resolved configuration, flattened: dotted key -> value as text.
    """

    name: str
    experiment: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Keeps the records of one run, from its construction to `finish`."""

    @property
    def run_id(self) -> str:
        """What the run is found by in this tracker's store."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records numbers at a count of training steps done. May buffer; NaN and infinities are allowed."""

    def text(self, name: str, content: str) -> None:
        """Keeps a text as a file of the run; `name` is a relative path such as `config.yaml`."""

    def artifact(self, path: Path, folder: str = "") -> Path:
        """Keeps a copy of a file or a folder, below `folder` of the run's artifacts.

        Returns where it can be read as long as the run's records exist, or the path that was given.
        """

    def flush(self) -> None:
        """Writes what is buffered now."""

    def finish(self, status: Status, error: str | None = None) -> None:
        """Ends the run: writes everything, then its status. A second call changes nothing."""


class Trackers:
    """Hands everything on to several trackers, in their order. One that raises does not keep it from the others."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        if not trackers:
            raise ValueError("a run needs at least one tracker")
        self._trackers = tuple(trackers)

    @property
    def run_id(self) -> str:
        """The first tracker's."""
        return self._trackers[0].run_id

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """See `Tracker.metrics`."""
        self._each(lambda tracker: tracker.metrics(values, step=step))

    def text(self, name: str, content: str) -> None:
        """See `Tracker.text`."""
        self._each(lambda tracker: tracker.text(name, content))

    def artifact(self, path: Path, folder: str = "") -> Path:
        """See `Tracker.artifact`. Each tracker is given what the one before it has kept."""
        kept = path

        def keep(tracker: Tracker) -> None:
            nonlocal kept
            kept = tracker.artifact(kept, folder)

        self._each(keep)
        return kept

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._each(lambda tracker: tracker.flush())

    def finish(self, status: Status, error: str | None = None) -> None:
        """See `Tracker.finish`."""
        self._each(lambda tracker: tracker.finish(status, error))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        first: Exception | None = None
        for tracker in self._trackers:
            try:
                call(tracker)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
