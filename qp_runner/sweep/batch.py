"""What a sweep launches before anything else is decided: a grid is one batch, a search many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qp_runner.sweep.parent import Sweep


@dataclass(frozen=True)
class Batch:
    """Jobs that are known.

    Attributes:
        jobs: overrides by the job's number.
        waves: the jobs to launch, by number; those of a wave run side by side.
        also: by number, the steps at which a job leaves its state for others.
    """

    jobs: Mapping[int, Sequence[str]]
    waves: Sequence[Sequence[int]]
    also: Mapping[int, Sequence[int]] = field(default_factory=dict)


Batches = Callable[[Path, "Sweep", int], Iterator[Batch]]
"""Given the sweep's folder, the sweep and the launcher's workers: its batches, each asked for when the last has run."""
