"""Order effects in words: what one pair shows, and the answer that all of them give to "In which order?"."""

from collections.abc import Sequence
from dataclasses import dataclass

from qp_runner.report.effect import Effect, starts_with
from qp_runner.report.words import listed, metric_number, p_value, plural, points, whole


@dataclass(frozen=True)
class Headline:
    """An answer in one or two sentences, and its reasons, a sentence each."""

    answer: str
    because: tuple[str, ...]


def verdict(effect: Effect) -> str:
    """What the comparison shows, as a sentence without capital and full stop."""
    found, better = effect.paired, f"{effect.winner.order} is better by"
    if found.n < 2:
        return "one seed: no verdict" if found.n else "no seed in common: no verdict"
    if found.interval is None and not found.mean:
        return f"no difference: equal in each of {plural(found.n, 'seed')}"
    if found.interval is None:
        by = f"{metric_number(effect.metric, abs(found.mean))} {points(effect.metric)} in each of {found.n} seeds"
        return f"{better} {by}: no spread, so no interval and no verdict"
    if not found.excludes_zero:
        return f"no difference shown (n={found.n})"
    text = f"{better} {_advantage(effect)}"
    if not effect.shown and effect.p_holm is not None:
        text += f"; not after Holm's correction for {effect.comparisons} pairs ({p_value(effect.p_holm)})"
    return text


def caution(effect: Effect) -> str:
    """What the recoveries say about the verdict; empty where they are equal or no difference was seen."""
    winner, loser = (whole(side.figure("recovery_steps")) for side in (effect.winner, effect.loser))
    if effect.extra_recovery > 0:
        return (
            f"it was also given more recovery ({winner} against {loser} steps) and may win for that reason; the "
            "controlled/ schedules separate the two"
        )
    if effect.extra_recovery < 0:
        return f"although it was given less recovery ({winner} against {loser} steps)"
    return ""


def headline(effects: Sequence[Effect]) -> Headline:
    """What the order effects of a section show together, as strong as the runs allow."""
    if not effects:
        return Headline("No answer here.", ("No two of these schedules differ in order alone.",))
    if all(effect.paired.n <= 1 for effect in effects):
        return Headline("One seed: no verdict.", ("With more seeds (seed=0,1,2,…) the orders can be told apart.",))
    shown = [effect for effect in effects if effect.shown]
    if not shown:
        return Headline("No difference shown.", (_nothing_shown(effects),))
    controlled = [effect for effect in effects if effect.equal_times and effect.paired.n > 1]
    reasons = [f"{e.winner.order} is better than {e.loser.order} by {_advantage(e)}." for e in shown]
    if len(shown) < len(effects):
        reasons.append(f"{plural(len(effects) - len(shown), 'other pair')} of orders: no difference shown.")
    return Headline(_answer(shown, controlled), (*reasons, *_confounded(shown, controlled)))


def _answer(shown: Sequence[Effect], controlled: Sequence[Effect]) -> str:
    """Advice if the order may have decided; what was observed if recovery or the first event may have."""
    clear = [effect for effect in shown if not effect.extra_recovery > 0]
    starts = {_start(effect) for effect in clear or shown}
    start = starts.pop() if len(starts) == 1 else ""
    other = f"{shown[0].winner.order} did better" if len(shown) == 1 else "It depends"
    observed = {"P": "Pruning first did better", "Q": "Quantizing first did better"}.get(start, other)
    if controlled and not any(effect.shown for effect in controlled):
        return f"{observed}, but with equal recovery and first event no difference is shown."
    advice = {"P": "Prune first, then quantize", "Q": "Quantize first, then prune"}.get(start, other)
    return f"{advice if clear else observed}."


def _start(effect: Effect) -> str:
    """What the winner does first, if the loser does the other first; else an empty text."""
    first, other = starts_with(effect.winner.order), starts_with(effect.loser.order)
    return first if {first, other} == {"P", "Q"} else ""


def _advantage(effect: Effect) -> str:
    """The interval of the winner's advantage: `0.21 to 0.56 points (n=10)`."""
    low, high = (metric_number(effect.metric, end) for end in sorted(map(abs, effect.paired.interval or ())))
    return f"{low} to {high} {points(effect.metric)} (n={effect.paired.n})"


def _confounded(shown: Sequence[Effect], controlled: Sequence[Effect]) -> list[str]:
    """Whether recovery may have decided instead of the order."""
    doubtful = [effect for effect in shown if effect.extra_recovery > 0]
    if not doubtful:
        return []
    who = "The better order" if len(doubtful) == len(shown) else listed([each.winner.order for each in doubtful])
    text = f"{who} was also given more recovery, which may be the reason"
    if not controlled:
        return [f"{text}: run the controlled/ schedules to separate the two."]
    stand = sum(effect.shown for effect in controlled)
    pairs = f" With recovery and first event equal, {stand} of {plural(len(controlled), 'pair')} still differ."
    return [f"{text}.{pairs if stand else ''}"]


def _nothing_shown(effects: Sequence[Effect]) -> str:
    seeds = sorted({effect.paired.n for effect in effects})
    n = f"{plural(seeds[0], 'seed')} each" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    why = "every 95 % interval that there is contains 0"
    if any(effect.paired.excludes_zero for effect in effects):
        why = "after the correction for several pairs none stands"
    several = f"{plural(len(effects), 'pair')} of orders, {n}: {why}."
    return f"{several} That is no proof of equality; more seeds narrow the intervals."
