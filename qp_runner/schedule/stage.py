"""A schedule compiled for a training of known length: ranges of steps in which compression does not change."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from qp_runner.schedule.event import FLOAT_BITS, Op, Target


@dataclass(frozen=True)
class TargetState:
    """How far one target is compressed: the share of elements pruned, and bits (32: not quantized)."""

    sparsity: float = 0.0
    bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Stage:
    """Training between two events: steps `first` to `last`, counted from 0, both included.

    What is in `fires` changes before step `first`; the states do not show it, since quantizing to the same bits
    calibrates again. A stage may have no steps (`last == first - 1`): at the very end of training, which is compression
    after training, and where the next stage begins at the same step, as its events are of a higher rank.
    """

    first: int
    last: int
    weight: TargetState
    activation: TargetState
    fires: frozenset[tuple[Op, Target]]

    @property
    def steps(self) -> int:
        """Training steps in the stage."""
        return self.last - self.first + 1

    def state(self, target: Target) -> TargetState:
        """The state of one target throughout the stage."""
        return self.weight if target == Target.WEIGHT else self.activation

    def record(self) -> dict[str, Any]:
        """The stage as plain data."""
        return asdict(self) | {"fires": sorted(f"{op} {target}" for op, target in self.fires)}


def total_steps(stages: Sequence[Stage]) -> int:
    """The steps of the whole training."""
    return stages[-1].last + 1


def starting_from(stages: Sequence[Stage], *, weight: TargetState, activation: TargetState) -> tuple[Stage, ...]:
    """The stages of a training whose networks are compressed from the start: what no event has changed is as it was."""
    start, found = {Target.WEIGHT: weight, Target.ACTIVATION: activation}, []
    for number, stage in enumerate(stages):
        fired = frozenset[tuple[Op, Target]]().union(*(each.fires for each in stages[: number + 1]))
        states = {
            target: TargetState(
                stage.state(target).sparsity if (Op.PRUNE, target) in fired else start[target].sparsity,
                stage.state(target).bits if (Op.QUANTIZE, target) in fired else start[target].bits,
            )
            for target in Target
        }
        found.append(replace(stage, weight=states[Target.WEIGHT], activation=states[Target.ACTIVATION]))
    return tuple(found)


def recovery(stages: Sequence[Stage]) -> int:
    """The steps after the last event: 0 for compression after training, all steps where nothing is compressed."""
    return stages[-1].steps


def first_event(stages: Sequence[Stage]) -> int | None:
    """The step before which the first event fires, or None where nothing is compressed."""
    return next((stage.first for stage in stages if stage.fires), None)
