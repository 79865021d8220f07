"""An order effect in words."""

import math

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, Verdict
from qp_runner.report.words import metric_number, p_value, plural, points, whole


def verdict(effect: Effect, metric: Metric) -> str:
    """What the comparison shows, as a sentence without capital and full stop."""
    n = effect.paired.n
    match effect.verdict:
        case Verdict.NO_SEED:
            return "no seed in common: no verdict"
        case Verdict.ONE_SEED:
            return "one seed: no verdict"
        case Verdict.EQUAL:
            return f"no difference: equal in each of {plural(n, 'seed')}"
        case Verdict.NO_SPREAD:
            by = f"{metric_number(metric, abs(effect.paired.mean))} {points(metric)} in each of {n} seeds"
            return f"{effect.winner.order} is better by {by}: no spread, so no interval and no verdict"
        case Verdict.NOT_SHOWN:
            return f"no difference shown (n={n})"
    text = f"{effect.winner.order} is better by {advantage(effect, metric)}"
    if effect.verdict is Verdict.CORRECTED_AWAY and effect.p_holm is not None:
        text += f"; not after Holm's correction for {effect.comparisons} pairs ({p_value(effect.p_holm)})"
    return text


def advantage(effect: Effect, metric: Metric) -> str:
    """The interval of the winner's advantage: `0.21 to 0.56 points (n=10)`."""
    low, high = sorted(abs(end) for end in (effect.paired.low, effect.paired.high) if end is not None)
    return f"{metric_number(metric, low)} to {metric_number(metric, high)} {points(metric)} (n={effect.paired.n})"


def caution(effect: Effect) -> str:
    """What the recoveries say about the verdict; empty where they are equal or no difference was seen."""
    winner, loser = (whole(side.figures.get("recovery_steps", math.nan)) for side in (effect.winner, effect.loser))
    if effect.extra_recovery > 0:
        return (
            f"it was also given more recovery ({winner} against {loser} steps) and may win for that reason; the "
            "controlled/ schedules separate the two"
        )
    if effect.extra_recovery < 0:
        return f"although it was given less recovery ({winner} against {loser} steps)"
    return ""
