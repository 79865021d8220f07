"""What a report reads of an MLflow store, whatever kind of store it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
PICTURES = "pictures"


@dataclass(frozen=True)
class StoredRun:
    """A run of this project as a store has it.

    Attributes:
        status: as MLflow names it, `FINISHED` for example.
        start, end: milliseconds since 1970.
        tags, params: at least those that are asked for.
        metrics: the last value of each.
    """

    run_id: str
    status: str
    start: int
    end: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Source(Protocol):
    """An existing store, read-only."""

    def runs(self) -> Sequence[StoredRun]:
        """The runs of this project but deleted ones; other people's runs in the same store are none of them."""

    def history(self, wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, int, float, int]]:
        """All values of metrics, of those runs that are wanted of each: run, metric, step, value, time (ms)."""

    def pictures(self, run_id: str) -> dict[str, bytes]:
        """The PNG files among a run's pictures, by name. Raises whatever keeps them from being read."""
