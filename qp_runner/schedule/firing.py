"""The exact moments at which events fire, and the rules between their times."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from qp_runner.errors import ConfigError
from qp_runner.schedule.event import Curve, Event, Op, Target
from qp_runner.schedule.time import Time

Position = Callable[[Time], Fraction]
"""Maps a time to its exact position on one axis, in any unit."""


class Firing(NamedTuple):
    """One moment of one event. Sorts by time, then by rank, op, target and value."""

    at: Fraction
    rank: int
    op: Op
    target: Target
    value: float


def check_times(events: Sequence[Event], position: Position, *, length: Fraction | None) -> None:
    """Raises ConfigError unless the events fit together on the axis of `position`.

    Each starts before it ends and lies within `length` (None: unknown); events of one target and op do not overlap, and
    sparsity never falls.
    """
    for event in events:
        _check_window(event, position, length)
    for group in _chains(events, position):
        for before, after in pairwise(group):
            _check_apart(before, after, position)
            if after.op == Op.PRUNE and after.to < before.to:
                raise after.error("to", f"sparsity may not fall; {before.name} prunes to {before.to:g} before it")


def firings(events: Sequence[Event], position: Position) -> list[Firing]:
    """All moments at which events fire, in order of time."""
    found: list[Firing] = []
    for group in _chains(events, position):
        sparsity = 0.0  # a ramp starts from the sparsity of the event before it
        for event in group:
            found += _points(event, position, sparsity)
            sparsity = event.to
    return sorted(found)


def first_firing(event: Event, position: Position) -> Fraction:
    """When an event fires first: a ramp's start is exclusive."""
    start = position(event.start)
    return start if event.end is None else start + (position(event.end) - start) / event.steps


def _points(event: Event, position: Position, sparsity: float) -> Iterator[Firing]:
    """An event's moments; after i of n, cubic gives s0 + (to - s0)(1 - (1 - i/n)^3) (Zhu & Gupta 2017, eq. 1)."""
    start = position(event.start)
    end = start if event.end is None else position(event.end)
    for i in range(1, event.steps + 1):
        done = Fraction(i, event.steps)
        share = done if event.curve == Curve.LINEAR else 1 - (1 - done) ** 3
        value = event.to
        if event.op == Op.PRUNE:
            # exact fractions, rounded once: never above `to`, and exactly `to` at the end
            value = float(Fraction(sparsity) + (Fraction(event.to) - Fraction(sparsity)) * share)
        at = end if event.end is None else start + (end - start) * done
        yield Firing(at, event.rank, event.op, event.target, value)


def _chains(events: Sequence[Event], position: Position) -> list[list[Event]]:
    """The events of each op and target, in order of time."""
    chains = []
    for op in Op:
        for target in Target:
            chain = [event for event in events if (event.op, event.target) == (op, target)]
            chains.append(sorted(chain, key=lambda event: (*_window(event, position), event.rank, event.name)))
    return chains


def _window(event: Event, position: Position) -> tuple[Fraction, Fraction]:
    return position(event.start), position(event.end or event.start)


def _check_window(event: Event, position: Position, length: Fraction | None) -> None:
    start, end = _window(event, position)
    if event.end is not None and end <= start:
        raise event.error("end", f"after start, which is {event.start}")
    for field, at in (("start", start), ("end", end)):
        if length is not None and at > length:
            raise event.error(field, "at most 1dur, the end of training")


def _check_apart(before: Event, after: Event, position: Position) -> None:
    """A ramp may start where the event before it ends, since its start is exclusive, and so may an event of a higher
    rank; nothing may start earlier.
    """
    end, start = _window(before, position)[1], _window(after, position)[0]
    if start < end or (start == end and after.end is None and after.rank <= before.rank):
        when = f"{before.start} to {before.end}" if before.end else f"at {before.start}"
        raise ConfigError(
            f"schedule.events.{after.name}.start",
            after.start,
            f"apart from {before.name}, which also has {before.op} {before.target}, {when}",
        )
