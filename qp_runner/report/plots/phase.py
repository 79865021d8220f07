"""Two maps over sparsity × bit width: the order effect, and what the rule "the weaker method first" predicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from qp_runner.report.phase import Cell, Phase
from qp_runner.report.plots.style import INK, canvas, svg
from qp_runner.report.words import metric_number, points
from qp_runner.shares import percent

NARROW = 600  # pixels: below it the maps stand one above the other
PANEL = 330  # pixels high
COLOURS = "PuOr"  # orange: quantizing first, purple: pruning first; distinct for all kinds of colour vision
LINEAR = 0.02  # share of the largest figure up to which colours grow linearly
DARK = 0.27  # distance from the middle of the colours from which text is white
TITLE: dict[str, Any] = {"fontsize": 10, "loc": "left"}


def phase_plot(found: Phase, *, width: int, name: str) -> str:
    """The maps as an HTML element."""
    narrow = width < NARROW
    with canvas(width, PANEL * (2 if narrow else 1)) as figure:
        draw_phase(figure, found, narrow=narrow)
        return svg(figure, title="order effect over sparsity and bit width, beside a prediction", name=name)


def draw_phase(figure: Figure, found: Phase, *, narrow: bool = False) -> None:
    """Both maps in one scale of colours: purple prunes first, orange quantizes first."""
    measured, predicted = figure.subplots(*((2, 1) if narrow else (1, 2)))
    cells = found.cells
    reach = max((abs(value) for cell in cells for value in (cell.effect.paired.mean, cell.lead or 0.0)), default=1.0)
    norm = SymLogNorm(LINEAR * reach or 1.0, vmin=-reach or -1.0, vmax=reach or 1.0)
    _map(measured, found, [cell.effect.paired.mean for cell in cells], [_measured(found, cell) for cell in cells], norm)
    _map(predicted, found, [cell.lead for cell in cells], [_predicted(found, cell) for cell in cells], norm)
    unit = points(found.metric)
    measured.set_title(f"Measured: advantage of P first, {unit}\n* the 95 % interval excludes 0", **TITLE)
    predicted.set_title("Predicted: cost of Q alone minus P alone\n✗ the measured mean has the other sign", **TITLE)


def _measured(found: Phase, cell: Cell) -> str:
    text = metric_number(found.metric, cell.effect.paired.mean, signed=True)
    return text + (" *" if cell in found.decided else "")


def _predicted(found: Phase, cell: Cell) -> str:
    return metric_number(found.metric, cell.lead, signed=True) + (" ✗" if cell.right is False else "")


def _map(axes: Axes, found: Phase, values: Sequence[float | None], texts: Sequence[str], norm: SymLogNorm) -> None:
    columns, rows = found.sparsities, found.bits
    table = np.full((len(rows), len(columns)), np.nan)
    for cell, value, text in zip(found.cells, values, texts, strict=True):
        x, y = columns.index(cell.sparsity), rows.index(cell.bits)
        table[y, x] = np.nan if value is None else value
        dark = value is not None and abs(float(norm(value)) - 0.5) > DARK
        axes.text(x, y, text, ha="center", va="center", fontsize=10, color="white" if dark else INK)
    edges = (np.arange(len(each) + 1) - 0.5 for each in (columns, rows))
    axes.pcolormesh(*edges, table, norm=norm, cmap=COLOURS, edgecolors="white", linewidth=2)
    axes.invert_yaxis()
    axes.set_xticks(range(len(columns)), [percent(each) for each in columns])
    axes.set_yticks(range(len(rows)), [str(each) for each in rows])
    axes.set_xlabel("sparsity")
    axes.set_ylabel("bits")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
