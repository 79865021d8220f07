"""What a sweeper is asked for, and what it launches: a grid is one batch of jobs, a search is many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from qp_runner.config.compose import Composer, Job, expand, sweep_params
from qp_runner.config.job_loader import JobLoader
from qp_runner.sweep.parent import ParentRun

NUMBERED = "${hydra:job.num}"
"""What `hydra.sweep.subdir` is unless somebody changes it."""


@dataclass(frozen=True)
class Request:
    """What a command asks for.

    Attributes:
        combinations: of the swept values: the overrides of each job of a grid.
        first: the first of them, composed.
        compose: composes and checks a job (ConfigError).
        folder: `hydra.sweep.dir`, where the command names it.
        numbered: whether the folder of a job is its number, which is so unless the command names another.
    """

    combinations: Sequence[Sequence[str]]
    first: Job
    compose: Callable[[Sequence[str]], Job]
    folder: Path | None = None
    numbered: bool = True

    @classmethod
    def read(cls, loader: JobLoader, command: DictConfig) -> "Request":
        """What a command asks for, from its own composition. Raises ConfigError."""
        overrides = [*sweep_params(command), *map(str, command.hydra.overrides.task)]
        combinations, composer = expand(overrides, loader), Composer(loader, command)
        sweep: Any = OmegaConf.to_container(command.hydra.sweep)
        named = any(str(each).startswith("hydra.sweep.dir=") for each in command.hydra.overrides.hydra)
        return cls(
            combinations=combinations,
            first=composer.job(combinations[0]),
            compose=composer.job,
            folder=Path(str(command.hydra.sweep.dir)) if named else None,
            numbered=sweep["subdir"] == NUMBERED,
        )


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
    """

    title: str
    jobs: int
    batches: Batches
    digest: str = ""
    before: Path | None = None
    forgiving: bool = False
