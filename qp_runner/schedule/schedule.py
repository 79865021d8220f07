"""A schedule: the events of a run. Its order is in their times, never in code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

from qp_runner.errors import ConfigError
from qp_runner.schedule.event import ROOT, Event, Op, Target
from qp_runner.schedule.firing import Firing, Position, check_times, firings
from qp_runner.schedule.naming import ordered_name, unordered_name
from qp_runner.schedule.stage import Stage, TargetState
from qp_runner.schedule.time import Time, Unit, nearest_step


@dataclass(frozen=True)
class Schedule:
    """The events of a run, sorted by name: the order in which they are written does not matter."""

    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", tuple(sorted(self.events, key=lambda event: event.name)))
        if self._position is not None:  # times of one unit compare without the length of training
            length = Fraction(1) if self._units == {Unit.DUR} else None
            check_times(self.events, self._position, length=length)

    @classmethod
    def from_config(cls, config: Mapping[str, Mapping[str, object]]) -> "Schedule":
        """Reads the value of `schedule.events`, events by name.

        Raises ConfigError for every error that does not depend on the length of training; `compile` compares times in
        different units.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(ROOT, config, "a mapping of events by name; {} for a float run")
        return cls(tuple(Event.from_config(str(name), event) for name, event in config.items()))

    @property
    def name(self) -> str:
        """`float`, `P0.5(w,f) → Q8(w,f)`, ...: changes in the order in which they begin, ` + ` where they coincide.

        Where different units leave the order open, changes are joined by commas; `name_for` resolves it.
        """
        return unordered_name(self.events) if self._position is None else ordered_name(self.events, self._position)

    def name_for(self, *, total_steps: int, steps_per_epoch: int) -> str:
        """The name in a training of known length: the same as `name` where all times have one unit."""
        return ordered_name(self.events, _steps(total_steps=total_steps, steps_per_epoch=steps_per_epoch))

    @property
    def signature(self) -> str:
        """The changes without their times: schedules of equal signature and different names differ in order only."""
        return unordered_name(self.events)

    def compile(self, *, total_steps: int, steps_per_epoch: int) -> tuple[Stage, ...]:
        """The stages of a training of `total_steps`; each of its steps is in exactly one of them.

        An event fires before the step nearest to its time; of several values for one step the last one counts. Where
        events of one step have several ranks, each rank is a stage, all but the last of them without steps. In a
        training without steps all events keep the order of their times. Raises ConfigError where times do not fit
        together or lie past the end of training.
        """
        position = _steps(total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        check_times(self.events, position, length=Fraction(total_steps or 1))
        return _stages(_moments(firings(self.events, position), total_steps), total_steps)

    @property
    def _units(self) -> set[Unit]:
        return {time.unit for event in self.events for time in (event.start, event.end) if time is not None}

    @property
    def _position(self) -> Position | None:
        """The axis on which times compare without lengths, or None where their units differ."""
        return (lambda time: time.amount) if len(self._units) <= 1 else None


def _steps(*, total_steps: int, steps_per_epoch: int) -> Position:
    """The axis of training steps; in a training without steps one from 0 to 1, which has the order of events."""
    if total_steps < 0 or steps_per_epoch < 1:
        raise ValueError(f"a training has no less than 0 steps: {total_steps=}, {steps_per_epoch=}")
    if total_steps == 0:
        return lambda time: time.amount if time.unit is Unit.DUR or not time.amount else 1 + time.amount

    def position(time: Time) -> Fraction:
        return time.position(total_steps=total_steps, steps_per_epoch=steps_per_epoch)

    return position


def _moments(found: Sequence[Firing], total_steps: int) -> list[tuple[int, list[Firing]]]:
    """Firings, in order of time, that take effect together, each with the step that they precede."""

    def together(firing: Firing) -> tuple[Fraction | int, int]:
        return (nearest_step(firing.at) if total_steps else firing.at), firing.rank

    moments = [(at, list(group)) for (at, _), group in groupby(found, key=together)]
    return [(int(at) if total_steps else 0, group) for at, group in moments]


def _stages(moments: Sequence[tuple[int, list[Firing]]], total_steps: int) -> tuple[Stage, ...]:
    """Splits training at the moments."""
    if not moments or moments[0][0] > 0:
        moments = [(0, []), *moments]
    state = dict.fromkeys(Target, TargetState())
    stages = []
    ends = [*(first for first, _ in moments[1:]), total_steps]
    for (first, now), following in zip(moments, ends, strict=True):
        for firing in now:
            change = {"sparsity": firing.value} if firing.op == Op.PRUNE else {"bits": int(firing.value)}
            state[firing.target] = replace(state[firing.target], **change)
        fires = frozenset((firing.op, firing.target) for firing in now)
        stages.append(Stage(first, following - 1, state[Target.WEIGHT], state[Target.ACTIVATION], fires))
    return tuple(stages)
