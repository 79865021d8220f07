"""Where a run belongs: its folder, what people call it, its place in a sweep."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SweepContext:
    """A job's place in a sweep: its number, from 0, among all jobs.

    Attributes:
        ignored: marks of stored states that are not used; see `CheckpointStore`.
        checkpoint_steps: steps at which other jobs need this one's state.
    """

    name: str
    folder: Path
    number: int
    jobs: int
    ignored: frozenset[str] = frozenset()
    checkpoint_steps: frozenset[int] = frozenset()


@dataclass(frozen=True)
class RunContext:
    """Where a run belongs.

    Attributes:
        folder: takes the run's records.
        label: the schedule's choice and what the command line changed in it.
        variant: what else the command line changed; runs are alike only where this is equal.
        sweep: None for a run made alone.
    """

    folder: Path
    label: str
    variant: str = ""
    sweep: SweepContext | None = None

    def title(self, seed: int) -> str:
        """What a person reads: `[2/18] p_q_wf · seed 0`."""
        counted = self.sweep is not None and self.sweep.number < self.sweep.jobs  # a search numbers some apart
        number = f"[{self.sweep.number + 1}/{self.sweep.jobs}] " if self.sweep and counted else ""
        return f"{number}{self.name(seed)}"

    def name(self, seed: int) -> str:
        """The run's name in records: `p_q_wf · seed 0`."""
        return f"{self.label} · seed {seed}"
