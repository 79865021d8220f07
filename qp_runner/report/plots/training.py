"""The metric over training: a panel for each schedule, with its events."""

import math

import pandas as pd
from matplotlib.axes import Axes

from qp_runner.metric import Metric
from qp_runner.report.events import changes, joined
from qp_runner.report.plots.style import GRID, Looks, canvas, svg, tidy
from qp_runner.report.rows import Row
from qp_runner.report.words import label

WIDTH, HEIGHT = 304, 212
JOINED = 0.1  # changes closer than this share of training share a label
OPS = {"P": ("#8c3b00", (0, (4, 2))), "Q": ("#003f66", (0, (1, 1.4)))}
START_UP, LATER = 0.15, 0.3  # shares of training after which means and single seeds must be visible
BEHIND = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6}


def curves(row: Row, histories: pd.DataFrame) -> pd.DataFrame:
    """The validation metric of a row's finished runs, by step (index) and run (columns)."""
    own = histories[(histories["name"] == "metric") & histories["run_id"].isin(row.run_ids)]
    return own.pivot_table(index="step", columns="run_id", values="value")


def value_range(found: list[pd.DataFrame]) -> tuple[float, float] | None:
    """Shared axis limits of panels: only the start of training may lie outside."""
    values: list[float] = []
    for table in (each for each in found if len(each)):
        mean, end = _mean(table), float(table.index.max())
        values += list(mean[mean.index >= START_UP * end])
        values += list(table[table.index >= LATER * end].to_numpy().ravel())
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    margin = 0.06 * (max(known) - min(known)) or 0.5
    return min(known) - margin, max(known) + margin


def training_plot(
    row: Row,
    histories: pd.DataFrame,
    *,
    metric: Metric,
    looks: Looks,
    limits: tuple[float, float] | None,
    reference: pd.DataFrame | None,
    name: str,
) -> str:
    """A panel: seeds thin, their mean thick, `reference` (the float runs) grey, events as lines with labels."""
    found = curves(row, histories)
    per_epoch = row.figures.get("steps_per_epoch", 1.0) or 1.0
    with canvas(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        tidy(axes)
        if reference is not None and len(reference):
            mean = _mean(reference)
            axes.plot(mean.index / per_epoch, mean, color="#a3aab3", linewidth=1.2, zorder=2)
        colour = looks[row.schedule].colour
        for _, series in found.items():
            known = series.dropna()
            axes.plot(known.index / per_epoch, known, color=colour, linewidth=0.9, alpha=0.35, zorder=3)
        mean = _mean(found)
        axes.plot(mean.index / per_epoch, mean, color=colour, linewidth=2.2, zorder=4, solid_capstyle="round")
        if limits is not None:
            axes.set_ylim(limits[0], limits[1] + 0.22 * (limits[1] - limits[0]))  # room for the labels
        end = row.figures.get("total_steps", float(found.index.max() if len(found) else 1))
        axes.set_xlim(0, max(end, 1) / per_epoch)  # 0: nothing was trained
        _mark_events(axes, row, histories, end=end, per_epoch=per_epoch)
        axes.set_xlabel("epoch", fontsize=10)
        axes.set_ylabel(f"validation {label(metric)}", fontsize=10)
        axes.locator_params(axis="y", nbins=5)
        return svg(figure, title=f"{row.order}: {metric.name} over training, events marked", name=name)


def _mean(table: pd.DataFrame) -> pd.Series:
    """Over seeds, at steps recorded for all of them."""
    return table.dropna().mean(axis=1)


def _mark_events(axes: Axes, row: Row, histories: pd.DataFrame, *, end: float, per_epoch: float) -> None:
    """Draws a line at every change, a label for each group of changes, and shades the recovery; P above Q labels."""
    found = changes(histories, row.run_ids[0])
    for change in found:
        colour, dashes = OPS[change.op]
        axes.axvline(change.step / per_epoch, color=colour, linewidth=0.9, linestyle=dashes, alpha=0.75, zorder=1)
    if found:
        axes.axvspan(found[-1].step / per_epoch, end / per_epoch, color=GRID, alpha=0.55, linewidth=0, zorder=0)
    for group in joined(found, gap=JOINED * end):
        right = group.step > 0.8 * end
        axes.annotate(
            f"{group.op}({group.targets})",
            (group.step / per_epoch, 1.0 if group.op == "P" else 0.91),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if right else 3, -1),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=10,
            fontweight="bold",
            color=OPS[group.op][0],
            bbox=BEHIND,
            zorder=6,
        )
