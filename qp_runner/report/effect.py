"""The order effect: two schedules that do the same in another order, compared seed by seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from qp_runner.metric import Metric
from qp_runner.report.rows import Row
from qp_runner.report.stats import Paired, holm, paired
from qp_runner.report.words import metric_number, p_value, plural, points, whole

ALPHA = 0.05


@dataclass(frozen=True)
class Effect:
    """The advantage of `first` over `second`, in the metric's good direction: positive, then `first` is better.

    Attributes:
        seeds, differences: of the seeds that both have.
        paired: the differences' mean and interval.
        comparisons: intervals in the same section.
        p_holm: p value adjusted for them; None where there is one interval or none.
        verdict, caution: in words; caution is empty where recovery is equal or nothing was shown.
    """

    first: Row
    second: Row
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    paired: Paired
    comparisons: int = 1
    p_holm: float | None = None
    verdict: str = ""
    caution: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether this pair's own interval excludes 0."""
        return self.paired.excludes_zero

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, also after the correction for several pairs."""
        return self.excludes_zero and (self.p_holm is None or self.p_holm < ALPHA)

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
    def equal_times(self) -> bool:
        """Whether both have the same recovery and the same first event, so that the order alone differs."""
        return all(len(set(self.steps(name))) == 1 for name in ("recovery_steps", "first_event_step"))


def order_effects(rows: Sequence[Row], metric: Metric) -> list[Effect]:
    """One effect for each pair of rows of equal signature, family and training length, but another order."""
    effects = [_compare(first, second, metric) for first, second in _pairs(rows)]
    ps = [effect.paired.p for effect in effects if effect.paired.p is not None]
    adjusted = iter(holm(ps) if len(ps) > 1 else [])
    effects = [
        replace(effect, comparisons=len(ps), p_holm=next(adjusted, None)) if effect.paired.p is not None else effect
        for effect in effects
    ]
    return [replace(effect, verdict=_verdict(effect, metric), caution=_caution(effect)) for effect in effects]


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


def _verdict(effect: Effect, metric: Metric) -> str:
    found, n = effect.paired, effect.paired.n
    if n == 0:
        return "no seed in common: no verdict"
    if n == 1:
        return "one seed: no verdict"
    if found.low is None or found.high is None:
        return _without_spread(effect, metric)
    if not found.excludes_zero:
        return f"no difference shown (n={n})"
    low, high = sorted((abs(found.low), abs(found.high)))
    text = f"{effect.winner.order} is better by {metric_number(metric, low)} to {metric_number(metric, high)} {points(metric)} (n={n})"
    if not effect.shown and effect.p_holm is not None:
        text += f"; not after Holm's correction for {effect.comparisons} pairs ({p_value(effect.p_holm)})"
    return text


def _without_spread(effect: Effect, metric: Metric) -> str:
    """Every seed has the same difference: there is nothing to estimate an interval from."""
    n, mean = effect.paired.n, effect.paired.mean
    if mean == 0:
        return f"no difference: equal in each of {plural(n, 'seed')}"
    exactly = f"{metric_number(metric, abs(mean))} {points(metric)}"
    return (
        f"{effect.winner.order} is better by {exactly} in each of {n} seeds: no spread, so no interval and no verdict"
    )


def _caution(effect: Effect) -> str:
    """What else than the order may have decided."""
    recovery = {side.schedule: side.figures.get("recovery_steps", math.nan) for side in (effect.first, effect.second)}
    winner, loser = recovery[effect.winner.schedule], recovery[effect.loser.schedule]
    if not effect.excludes_zero or winner == loser:
        return ""
    if winner > loser:
        return (
            f"it was also given more recovery ({whole(winner)} against {whole(loser)} steps) and may win for that "
            "reason; the controlled/ schedules separate the two"
        )
    return f"although it was given less recovery ({whole(winner)} against {whole(loser)} steps)"
