"""The order effect over tasks: one row for each task, family of event times and target, in a unit they all share.

The unit is the float run's spread over seeds, so that points of accuracy, decibels and distances stand on one axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qp_runner.report.effect import ALPHA, Effect, family, starts_with
from qp_runner.report.sections import Section
from qp_runner.report.stats import holm
from qp_runner.report.words import listed, metric_number, p_value, plural, points

CONTROLLED, PUBLISHED = "controlled", "published"


@dataclass(frozen=True)
class ForestRow:
    """The order effect of one pair: above zero pruning first is better, below zero quantizing first.

    Attributes:
        section: the runs it belongs to.
        family: `controlled`, `published`, or the folder of any other schedules.
        target: what is pruned: `w`, `f` or `w,f`.
        unit: standard deviation of the float runs over seeds, in the metric's unit; None below two float runs.
        comparisons: number of rows with a p value.
        p_holm: p value adjusted for all of them; None where the row has no p value.
    """

    section: Section
    family: str
    target: str
    effect: Effect
    unit: float | None
    comparisons: int = 0
    p_holm: float | None = None

    @property
    def shown(self) -> bool:
        """Whether a difference stands after the correction for all rows."""
        return self.effect.paired.excludes_zero and self.p_holm is not None and self.p_holm < ALPHA

    @property
    def mean(self) -> float | None:
        """The mean difference in units; None without a unit or a pair."""
        return self.effect.paired.mean / self.unit if self.unit and self.effect.paired.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval in units. The unit counts as known, although it is an estimate too."""
        found = self.effect.paired.interval
        return (found[0] / self.unit, found[1] / self.unit) if self.unit and found else None


def forest(found: Sequence[Section]) -> list[ForestRow]:
    """The rows of all sections, in their order; p values adjusted for all of them (Holm 1979).

    A section that repeats a pair at other sparsities or bit widths has no row of it: it has a map instead.
    """
    rows = [row for section in found for row in _rows(section)]
    ps = [row.effect.paired.p for row in rows if row.effect.paired.p is not None]
    adjusted = iter(holm(ps) if ps else [])
    return [
        replace(row, comparisons=len(ps), p_holm=None if row.effect.paired.p is None else next(adjusted))
        for row in rows
    ]


def sentences(rows: Sequence[ForestRow]) -> list[str]:
    """One sentence a task, as strong as its seeds allow."""
    sections = list({id(row.section): row.section for row in rows}.values())
    return [_sentence([row for row in rows if row.section is section], sections) for section in sections]


def place(row: ForestRow) -> str:
    """`w,f at controlled times`."""
    return f"{row.target} at {row.family} times"


def family_of(schedule: str) -> str:
    """The family of a schedule's event times; basic schedules have the published ones of classification."""
    return family(schedule).partition("/")[0] or PUBLISHED


def pruned(signature: str) -> str:
    """What is pruned: `w,f` for `P0.5(w,f), Q8(w,f)`."""
    letters = "".join(change.partition("(")[2] for change in signature.split("), ") if change.startswith("P"))
    return ",".join(letter for letter in "wf" if letter in letters)


def _rows(section: Section) -> list[ForestRow]:
    plain = section.plain
    unit = plain.metric.std if plain is not None and plain.metric.std else None
    made = [
        ForestRow(section, family_of(effect.first.schedule), pruned(effect.first.signature), effect, unit)
        for effect in section.effects
        if (starts_with(effect.first.order), starts_with(effect.second.order)) == ("P", "Q")
    ]
    places = [(row.family, row.target) for row in made]
    return [row for row, here in zip(made, places, strict=True) if places.count(here) == 1]


def _sentence(rows: Sequence[ForestRow], sections: Sequence[Section]) -> str:
    section, several = rows[0].section, [row for row in rows if row.effect.paired.n > 1]
    alike = [
        each for each in sections if (each.task, each.model, each.data) == (section.task, section.model, section.data)
    ]
    variant = f", {section.variant or 'default'}" if len(alike) > 1 else ""
    who = f"{section.task.replace('_', ' ')} ({section.model} on {section.data}{variant})"
    if not several:
        return f"{who}: one seed, no verdict."
    shown = [row for row in several if row.shown]
    said = [f"{_winner(row)} is better for {place(row)}, {_by(row)}" for row in shown]
    silent = [row for row in several if row not in shown]
    if silent:
        seeds = sorted({row.effect.paired.n for row in silent})
        n = f"n={seeds[0]}" if len(seeds) == 1 else f"n={seeds[0]} to {seeds[-1]}"
        said.append(f"no difference shown, {n}, for {listed([_open(row) for row in silent])}")
    alone = len(rows) - len(several)
    said += [f"{plural(alone, 'pair')} with fewer than two seeds: no verdict"] if alone else []
    return f"{who}: {'; '.join(said)}."


def _open(row: ForestRow) -> str:
    """Where nothing is shown, with what the interval still allows: `w at controlled times (−0.14 to +0.11 points)`."""
    metric, ends = row.effect.metric, row.effect.paired.interval
    if ends is None:
        return place(row)
    low, high = (metric_number(metric, end, signed=True) for end in ends)
    return f"{place(row)} ({low} to {high} {points(metric)})"


def _winner(row: ForestRow) -> str:
    return "pruning first" if row.effect.paired.mean > 0 else "quantizing first"


def _by(row: ForestRow) -> str:
    metric = row.effect.metric
    low, high = (metric_number(metric, end) for end in sorted(map(abs, row.effect.paired.interval or ())))
    assert row.p_holm is not None
    text = f"by {low} to {high} {points(metric)} (n={row.effect.paired.n}, {p_value(row.p_holm)} after Holm)"
    return f"{text}, with more recovery" if row.effect.extra_recovery > 0 else text
