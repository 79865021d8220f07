"""The order effect: two schedules with the same changes in another order, compared seed by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from qp_runner.metric import Metric
from qp_runner.report.rows import Row
from qp_runner.report.stats import Paired, holm, paired

ALPHA = 0.05


@dataclass(frozen=True)
class Effect:
    """The advantage of `first` over `second`: positive if `first` is better.

    Attributes:
        differences: of the seeds that both sides have, by rising seed.
        paired: the differences' mean and interval.
        comparisons: number of intervals in the same section.
        p_holm: p value adjusted for them; None with fewer than two intervals.
    """

    first: Row
    second: Row
    metric: Metric
    differences: tuple[float, ...]
    paired: Paired
    comparisons: int = 1
    p_holm: float | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0, also after the correction for several pairs."""
        return self.paired.excludes_zero and (self.p_holm is None or self.p_holm < ALPHA)

    @property
    def winner(self) -> Row:
        """The side that the mean favours."""
        return self.first if self.paired.mean >= 0 else self.second

    @property
    def loser(self) -> Row:
        """The other side."""
        return self.second if self.paired.mean >= 0 else self.first

    @property
    def extra_recovery(self) -> float:
        """Steps of recovery that the winner has more than the loser; 0 where this pair's own interval contains 0."""
        if not self.paired.excludes_zero:
            return 0.0
        return self.winner.figure("recovery_steps") - self.loser.figure("recovery_steps")

    @property
    def equal_times(self) -> bool:
        """Whether both have the same recovery and the same first event, so that only the order differs."""
        return all(
            self.first.figure(name) == self.second.figure(name) for name in ("recovery_steps", "first_event_step")
        )


def order_effects(rows: Sequence[Row], metric: Metric) -> list[Effect]:
    """The effects of all pairs of rows with equal signature, family and training length, but different order."""
    effects = [_compare(first, second, metric) for first, second in _pairs(rows)]
    ps = [effect.paired.p for effect in effects if effect.paired.p is not None]
    if len(ps) < 2:
        return effects
    adjusted = iter(holm(ps))
    return [
        effect if effect.paired.p is None else replace(effect, comparisons=len(ps), p_holm=next(adjusted))
        for effect in effects
    ]


def family(schedule: str) -> str:
    """The folder of a schedule's file: `controlled` for `controlled/p_q_wf`. Families differ in times by design."""
    return schedule.partition("[")[0].rpartition("/")[0]


def starts_with(order: str) -> str:
    """P or Q, whichever comes first in an order's name; empty if both come at once."""
    changes = {change.strip()[:1] for change in order.split("→")[0].split("+")}
    return changes.pop() if len(changes) == 1 else ""


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Pruning first comes first, quantizing first last: so all differences have the same sign."""
    for one, other in combinations([row for row in rows if not row.is_single], 2):
        same = one.signature == other.signature and family(one.schedule) == family(other.schedule)
        if same and one.order != other.order and one.figure("total_steps") == other.figure("total_steps"):
            first, second = sorted((one, other), key=lambda row: ("P", "", "Q").index(starts_with(row.order)))
            yield first, second


def _compare(first: Row, second: Row, metric: Metric) -> Effect:
    seeds = sorted(first.by_seed.keys() & second.by_seed.keys())
    differences = tuple(metric.sign * (first.by_seed[seed] - second.by_seed[seed]) for seed in seeds)
    return Effect(first, second, metric, differences, paired(differences))
