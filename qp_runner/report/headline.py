"""The answer to "In which order?", as strong as the runs allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect
from qp_runner.report.effect_words import advantage
from qp_runner.report.sections import Section
from qp_runner.report.words import listed, plural


@dataclass(frozen=True)
class Headline:
    """An answer in a few words, and its reasons, a sentence each."""

    answer: str
    because: tuple[str, ...]


def headline(section: Section) -> Headline:
    """What the section's order effects show together."""
    effects = section.effects
    if not effects:
        return Headline("No answer here.", ("No two of these schedules differ in order alone.",))
    if all(effect.paired.n <= 1 for effect in effects):
        return Headline("One seed: no verdict.", ("With more seeds (seed=0,1,2,…) the orders can be told apart.",))
    shown = [effect for effect in effects if effect.shown]
    if not shown:
        return Headline("No difference shown.", (_nothing_shown(effects),))
    reasons = [*_sentences(shown, section.metric, len(effects)), *_confounded(shown, effects)]
    return Headline(_answer(shown), tuple(reasons))


def _answer(shown: Sequence[Effect]) -> str:
    """Advice if the order may have decided; if recovery may have, what was observed."""
    clear = [effect for effect in shown if not effect.extra_recovery > 0]
    starts = {_start(effect) for effect in clear or shown}
    if starts == {"P"}:
        return "Prune first, then quantize." if clear else "Pruning first did better."
    if starts == {"Q"}:
        return "Quantize first, then prune." if clear else "Quantizing first did better."
    if len(shown) == 1:
        return f"{shown[0].winner.order} did better."
    return "It depends."


def _start(effect: Effect) -> str:
    """What the winner does first, if the loser does the other first; else an empty text."""
    first, other = _first_change(effect.winner.order), _first_change(effect.loser.order)
    return first if {first, other} == {"P", "Q"} else ""


def _first_change(order: str) -> str:
    """P or Q; empty if both come at once."""
    changes = {change.strip()[:1] for change in order.split("→")[0].split("+")}
    return changes.pop() if len(changes) == 1 else ""


def _sentences(shown: Sequence[Effect], metric: Metric, pairs: int) -> list[str]:
    sentences = [f"{e.winner.order} is better than {e.loser.order} by {advantage(e, metric)}." for e in shown]
    if len(shown) < pairs:
        sentences.append(f"{plural(pairs - len(shown), 'other pair')} of orders: no difference shown.")
    return sentences


def _confounded(shown: Sequence[Effect], effects: Sequence[Effect]) -> list[str]:
    """Whether recovery may have decided instead of the order."""
    doubtful = [effect for effect in shown if effect.extra_recovery > 0]
    if not doubtful:
        return []
    who = "The better order" if len(doubtful) == len(shown) else listed([each.winner.order for each in doubtful])
    text = f"{who} was also given more recovery, which may be the reason"
    controlled = [effect for effect in effects if effect.equal_times and effect.paired.n > 1]
    if not controlled:
        return [f"{text}: run the controlled/ schedules to separate the two."]
    stand = sum(effect.shown for effect in controlled)
    return [f"{text}. With recovery and first event equal, {stand} of {plural(len(controlled), 'pair')} still differ."]


def _nothing_shown(effects: Sequence[Effect]) -> str:
    seeds = sorted({effect.paired.n for effect in effects})
    n = f"{plural(seeds[0], 'seed')} each" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    why = "every 95 % interval that there is contains 0"
    if any(effect.paired.excludes_zero for effect in effects):
        why = "after the correction for several pairs none stands"
    several = f"{plural(len(effects), 'pair')} of orders, {n}: {why}."
    return f"{several} That is no proof of equality; more seeds narrow the intervals."
