"""The order effect over sparsity × bit width, and how well a rule predicts it: the weaker method first.

The rule is that of Kim et al. (2026, arXiv 2603.18426). Weaker is the method that, alone, costs less of the metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, starts_with
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section
from qp_runner.report.words import plural
from qp_runner.schedule import FLOAT_BITS

LEAST = 2  # sparsities, and bit widths, that make a map


@dataclass(frozen=True)
class Cell:
    """One sparsity and bit width.

    Attributes:
        effect: pruning first against quantizing first.
        prune_cost, quantize_cost: what each alone loses against the float run, in the metric's unit; None without
            such runs.
    """

    sparsity: float
    bits: int
    effect: Effect
    prune_cost: float | None
    quantize_cost: float | None

    @property
    def lead(self) -> float | None:
        """How much more quantizing alone costs than pruning alone: above zero the rule says to prune first."""
        if self.prune_cost is None or self.quantize_cost is None:
            return None
        return self.quantize_cost - self.prune_cost

    @property
    def right(self) -> bool | None:
        """Whether the rule names the side that the mean favours; None where either says nothing."""
        if not self.lead or not self.effect.paired.mean:
            return None
        return (self.lead > 0) == (self.effect.paired.mean > 0)


@dataclass(frozen=True)
class Phase:
    """A map of cells, by rising sparsity and falling bits, of equal event times but for the order."""

    metric: Metric
    cells: tuple[Cell, ...]

    @property
    def sparsities(self) -> list[float]:
        """The columns."""
        return sorted({cell.sparsity for cell in self.cells})

    @property
    def bits(self) -> list[int]:
        """The rows, from the top."""
        return sorted({cell.bits for cell in self.cells}, reverse=True)

    @property
    def decided(self) -> list[Cell]:
        """The cells whose interval excludes 0, before any correction for their number."""
        return [cell for cell in self.cells if cell.effect.paired.excludes_zero]


def phase(section: Section) -> Phase | None:
    """The map of a section; None for one that does not sweep sparsity and bits together."""
    alone = [row for row in section.finished if row.is_single]
    cells = [
        _cell(effect, alone, section.metric)
        for effect in section.effects
        if effect.paired.n and (starts_with(effect.first.order), starts_with(effect.second.order)) == ("P", "Q")
    ]
    found = Phase(section.metric, tuple(sorted(cells, key=lambda cell: (cell.sparsity, -cell.bits))))
    places = {(cell.sparsity, cell.bits) for cell in cells}
    full = len(places) == len(cells) and min(len(found.sparsities), len(found.bits)) >= LEAST
    return found if full else None


def prediction(found: Phase) -> str:
    """How often the rule is right, beside its opposite and the rule that always prunes first; a sentence or two."""
    judged = [cell for cell in found.cells if cell.right is not None]
    if not judged:
        return "Without runs that only prune and only quantize there is no prediction."
    said = f"Of {plural(len(judged), 'cell')} {_score(judged)}."
    sure = [cell for cell in judged if cell in found.decided]
    if not sure:
        return f"{said} In none of them does the interval exclude 0, so this says little."
    return f"{said} Of the {len(sure)} whose interval excludes 0, {_score(sure)}."


def _score(cells: Sequence[Cell]) -> str:
    weaker, pruning = sum(bool(cell.right) for cell in cells), sum(cell.effect.paired.mean > 0 for cell in cells)
    return (
        f"the rule “the weaker method first” is right in {weaker}, its opposite in {len(cells) - weaker}, "
        f"“always prune first” in {pruning}"
    )


def _cell(effect: Effect, alone: Sequence[Row], metric: Metric) -> Cell:
    sparsity, bits = effect.first.figure("sparsity_weight"), int(effect.first.figure("bits_weight"))
    sparsity = round(sparsity, 2)
    costs = _cost(alone, metric, sparsity=sparsity, bits=FLOAT_BITS), _cost(alone, metric, sparsity=0, bits=bits)
    return Cell(sparsity, bits, effect, *costs)


def _cost(alone: Sequence[Row], metric: Metric, *, sparsity: float, bits: int) -> float | None:
    """What runs lose that change one thing only, on average over their event times."""

    def mean(sparsity: float, bits: int) -> float | None:
        values = [
            row.metric.mean
            for row in alone
            if (round(row.figure("sparsity_weight"), 2), row.figure("bits_weight")) == (sparsity, bits)
        ]
        return fmean(values) if values else None

    plain, changed = mean(0, FLOAT_BITS), mean(sparsity, bits)
    return None if plain is None or changed is None else metric.sign * (plain - changed)
