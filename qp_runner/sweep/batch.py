"""What a sweeper launches: a grid is one batch of jobs, a search is many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qp_runner.sweep.parent import ParentRun


@dataclass(frozen=True)
class Batch:
    """Jobs to launch before anything else is decided.

    Attributes:
        jobs: overrides by the job's number.
        waves: the jobs to launch, by number; those of a wave run side by side.
        checkpoint_steps: by number, the steps at which a job stores its state for others.
    """

    jobs: Mapping[int, Sequence[str]]
    waves: Sequence[Sequence[int]]
    checkpoint_steps: Mapping[int, Sequence[int]] = field(default_factory=dict)


Batches = Callable[[ParentRun, int], Iterator[Batch]]
"""Given the open sweep and the launcher's number of workers: the batches, each asked for when the last one has run."""


@dataclass(frozen=True)
class SweepPlan:
    """How a request is met.

    Attributes:
        jobs: how many there are in all.
        digest: what makes another command the same sweep; empty for a sweep that can't go on.
        before: the folder of the earlier attempt that this one goes on with.
        forgiving: whether the sweep as such succeeds although jobs failed.
        shortcomings: what is not as it should be of the jobs that are skipped.
    """

    title: str
    jobs: int
    batches: Batches
    digest: str = ""
    before: Path | None = None
    forgiving: bool = False
    shortcomings: Sequence[str] = ()
