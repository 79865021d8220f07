"""The trials of a search, metric against footprint, with the front in colour."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from qp_runner.metric import Metric
from qp_runner.report.plots.labels import Label, place
from qp_runner.report.plots.pareto import draw_front, scale_costs
from qp_runner.report.plots.style import COLOURS, FLOAT_COLOUR, INK, save_png, tidy
from qp_runner.report.words import label
from qp_runner.search.trials import Trial, best, firsts

SIZE = (760, 460)
BEST, OTHER = COLOURS[0], "#b6bcc4"
Reference = Mapping[str, float] | None
"""The float run's figures, named as in `Trial`."""


def save_trial_plot(path: Path, trials: Sequence[Trial], *, metric: Metric, reference: Reference, title: str) -> None:
    """Writes a PNG: runs as dots, the front in colour with the trials' numbers, the float run as a square."""
    found = [trial for trial in firsts(trials) if trial.state == "finished"]
    front = best(trials, metric)
    others = [trial for trial in found if trial not in front]
    with save_png(path, *SIZE) as figure:
        axes = figure.subplots()
        tidy(axes, grid="both")
        shown = [point(each.figures) for each in found] + ([point(reference)] if reference else [])
        scale_costs(axes, [cost for cost, _ in shown])
        corners = draw_front(axes, [point(each.figures) for each in front])
        _dots(axes, others, colour=OTHER, size=6, label=f"{len(others)} others")
        _dots(axes, front, colour=BEST, size=9, label=f"front of {len(front)}")
        if reference:
            axes.plot(*point(reference), "s", color=FLOAT_COLOUR, markersize=8, linestyle="", label="float")
        axes.margins(x=0.1, y=0.14)
        axes.set_xlabel("← smaller    footprint, Mb", fontsize=11)
        axes.set_ylabel(f"validation {label(metric)}", fontsize=11)
        axes.set_title(title, fontsize=11, color=INK, loc="left")
        axes.legend(frameon=False, fontsize=10, loc="best")
        place(axes, [_label(each) for each in front], avoid=corners, size=10)


def point(figures: Mapping[str, float]) -> tuple[float, float]:
    """Footprint and validation metric."""
    return figures.get("footprint", math.nan), figures.get("metric", math.nan)


def _dots(axes: Axes, trials: Sequence[Trial], *, colour: str, size: float, label: str) -> None:
    if trials:
        xs, ys = zip(*(point(each.figures) for each in trials), strict=True)
        axes.plot(xs, ys, "o", color=colour, markersize=size, markeredgecolor="white", label=label, zorder=4)


def _label(trial: Trial) -> Label:
    x, y = point(trial.figures)
    return Label(x, y, str(trial.number), BEST, (y, y))
