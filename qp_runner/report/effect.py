"""The order effect: two schedules with the same changes in another order, compared seed by seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import combinations

from qp_runner.metric import Metric
from qp_runner.report.rows import Row
from qp_runner.report.stats import Paired, holm, paired

ALPHA = 0.05


class Verdict(Enum):
    """What a comparison of two orders shows."""

    NO_SEED = auto()  # no seed in common
    ONE_SEED = auto()
    EQUAL = auto()  # no difference in any seed
    NO_SPREAD = auto()  # the same difference in every seed: no estimate of an interval
    NOT_SHOWN = auto()  # the interval contains 0
    CORRECTED_AWAY = auto()  # the interval excludes 0, but not after the correction for several pairs
    SHOWN = auto()


@dataclass(frozen=True)
class Effect:
    """The advantage of `first` over `second`: positive if `first` is better.

    Attributes:
        seeds, differences: the seeds of both sides, and their differences.
        paired: the differences' mean and interval.
        comparisons: number of intervals in the same section.
        p_holm: p value adjusted for them; None with fewer than two intervals.
    """

    first: Row
    second: Row
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    paired: Paired
    comparisons: int = 1
    p_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What the differences show."""
        if self.paired.n <= 1:
            return Verdict.ONE_SEED if self.paired.n else Verdict.NO_SEED
        if not self.paired.has_interval:
            return Verdict.NO_SPREAD if self.paired.mean else Verdict.EQUAL
        if not self.paired.excludes_zero:
            return Verdict.NOT_SHOWN
        return Verdict.SHOWN if self.p_holm is None or self.p_holm < ALPHA else Verdict.CORRECTED_AWAY

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, also after the correction for several pairs."""
        return self.verdict is Verdict.SHOWN

    @property
    def winner(self) -> Row:
        """The side that the mean favours."""
        return self.first if self.paired.mean >= 0 else self.second

    @property
    def loser(self) -> Row:
        """The other side."""
        return self.second if self.paired.mean >= 0 else self.first

    def steps(self, name: str) -> tuple[float, float]:
        """`recovery_steps` or `first_event_step` of both sides."""
        return self.first.figures.get(name, math.nan), self.second.figures.get(name, math.nan)

    @property
    def extra_recovery(self) -> float:
        """Steps of recovery that the winner has more than the loser; 0 where this pair's own interval contains 0."""
        if not self.paired.excludes_zero:
            return 0.0
        return self.winner.figures.get("recovery_steps", math.nan) - self.loser.figures.get("recovery_steps", math.nan)

    @property
    def equal_times(self) -> bool:
        """Whether both have the same recovery and the same first event, so that only the order differs."""
        return all(len(set(self.steps(name))) == 1 for name in ("recovery_steps", "first_event_step"))


def order_effects(rows: Sequence[Row], metric: Metric) -> list[Effect]:
    """The effects of all pairs of rows with equal signature, family and training length, but different order."""
    effects = [_compare(first, second, metric) for first, second in _pairs(rows)]
    ps = [effect.paired.p for effect in effects if effect.paired.p is not None]
    adjusted = iter(holm(ps) if len(ps) > 1 else [])
    return [
        replace(effect, comparisons=len(ps), p_holm=next(adjusted, None)) if effect.paired.p is not None else effect
        for effect in effects
    ]


def family(schedule: str) -> str:
    """The folder of a schedule's file: `controlled` for `controlled/p_q_wf`. Families differ in times by design."""
    return schedule.partition("[")[0].rpartition("/")[0]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    for first, second in combinations(rows, 2):
        same = first.signature == second.signature and family(first.schedule) == family(second.schedule)
        lengths = {row.figures.get("total_steps", math.nan) for row in (first, second)}
        if same and first.order != second.order and len(lengths) == 1:
            yield first, second


def _compare(first: Row, second: Row, metric: Metric) -> Effect:
    seeds = tuple(sorted(first.by_seed.keys() & second.by_seed.keys()))
    differences = tuple(metric.sign * (first.by_seed[seed] - second.by_seed[seed]) for seed in seeds)
    return Effect(first, second, seeds, differences, paired(differences))
