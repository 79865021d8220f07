"""Names of schedules: what is done to what, in which order."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby

from qp_runner.schedule.event import Event, Op, Target
from qp_runner.schedule.firing import Position, first_firing

FLOAT = "float"
LETTERS: dict[Op | Target, str] = {Op.PRUNE: "P", Op.QUANTIZE: "Q", Target.WEIGHT: "w", Target.ACTIVATION: "f"}

Change = tuple[Op, float, frozenset[Target]]
"""An op, the value it reaches, and its targets."""


def ordered_name(events: Sequence[Event], position: Position) -> str:
    """A schedule's name by order of first firing, such as `P0.5(w,f) → Q8(w,f)`.

    Changes that begin at the same time, and have the same rank, are joined by `+`. The same change of the other target,
    next in order, is merged with it.
    """
    moments: list[list[Change]] = []

    def when(event: Event) -> tuple[Fraction, int]:
        return first_firing(event, position), event.rank

    for _, together in groupby(sorted(events, key=when), key=when):
        changes = _merged((event.op, event.to, event.target) for event in together)
        joined = _join(moments[-1], changes) if moments else None
        if joined is None:
            moments.append(changes)
        else:
            moments[-1] = joined
    return " → ".join(" + ".join(map(_text, moment)) for moment in moments) or FLOAT


def unordered_name(events: Iterable[Event]) -> str:
    """The changes without their order, such as `P0.5(w,f), Q8(w,f)`; a change made twice is listed twice."""
    counts = Counter((event.op, event.to, event.target) for event in events)
    changes: list[Change] = []
    while counts:
        changes += _merged(counts)
        counts -= Counter(list(counts))
    return ", ".join(map(_text, sorted(changes, key=_rank))) or FLOAT


def _merged(changes: Iterable[tuple[Op, float, Target]]) -> list[Change]:
    """One change for each op and value, with all its targets; prunings first."""
    targets: dict[tuple[Op, float], set[Target]] = {}
    for op, to, target in changes:
        targets.setdefault((op, to), set()).add(target)
    return sorted(((op, to, frozenset(found)) for (op, to), found in targets.items()), key=_rank)


def _join(before: list[Change], after: list[Change]) -> list[Change] | None:
    """Two consecutive changes merged into one, if they differ in their targets only; else None."""
    if len(before) != 1 or len(after) != 1:
        return None
    (op, to, first), (next_op, next_to, second) = before[0], after[0]
    return [(op, to, first | second)] if (op, to) == (next_op, next_to) and not first & second else None


def _rank(change: Change) -> tuple[Op, list[int], float]:
    op, to, targets = change
    return op, sorted(list(Target).index(target) for target in targets), to


def _text(change: Change) -> str:
    op, to, targets = change
    return f"{LETTERS[op]}{to:g}({','.join(LETTERS[target] for target in Target if target in targets)})"
