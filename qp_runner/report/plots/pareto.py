"""A plot of the metric against the footprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from qp_runner.metric import Metric
from qp_runner.report.pareto import front
from qp_runner.report.plots.labels import Label, place
from qp_runner.report.plots.style import MUTED, Looks, canvas, svg, tidy
from qp_runner.report.rows import Row
from qp_runner.report.words import label

LABELLED = 30  # with more schedules than that, only those on the front are named
LOG_FROM = 3.0  # ratio of footprints from which the axis is logarithmic


@dataclass(frozen=True)
class Point:
    """A schedule in the plot; one that is not solid is drawn hollow."""

    row: Row
    size: float
    std: float | None
    on_front: bool
    solid: bool = True


def pareto_plot(rows: Sequence[Row], *, metric: Metric, looks: Looks, kind: str, width: int, name: str) -> str:
    """Means over seeds ± one standard deviation of the metric against the footprint, with the Pareto front.

    `rows` are schedules with at least one figure, `kind` is the kind of footprint, `width` is in pixels.
    """
    with canvas(width, _height(width)) as figure:
        draw_pareto(figure, rows, metric=metric, looks=looks, kind=kind)
        return svg(figure, title=f"{metric.name} against footprint, Pareto front drawn", name=name)


def file_plot(rows: Sequence[Row], *, metric: Metric, looks: Looks, width: int, name: str) -> str:
    """The same against the measured size of exported files; hollow where a file was not verified."""
    marks = front([(row.file_mb, metric.sign * row.metric.mean) for row in rows])
    points = [Point(row, row.file_mb, None, mark, row.is_verified) for row, mark in zip(rows, marks, strict=True)]
    with canvas(width, _height(width)) as figure:
        _draw(figure, points, metric=metric, looks=looks, size="exported file, Mb (measured)")
        return svg(figure, title=f"{metric.name} against exported file, Pareto front drawn", name=name)


def draw_pareto(figure: Figure, rows: Sequence[Row], *, metric: Metric, looks: Looks, kind: str) -> None:
    """Draws `pareto_plot` into a figure."""
    points = [Point(row, row.footprint.mean, row.footprint.std, row.on_front) for row in rows]
    _draw(figure, points, metric=metric, looks=looks, size=f"footprint, Mb ({kind or 'total'})")


def _height(width: int) -> int:
    return round(max(320, 0.56 * width))


def _draw(figure: Figure, points: Sequence[Point], *, metric: Metric, looks: Looks, size: str) -> None:
    axes = figure.subplots()
    tidy(axes, grid="both")
    scale_costs(axes, [point.size for point in points])
    staircase = draw_front(axes, [(point.size, point.row.metric.mean) for point in points if point.on_front])
    labels = []
    for point in points:
        row, x = point.row, point.size
        look, y, half = looks[row.schedule], row.metric.mean, row.metric.std or 0.0
        axes.errorbar(
            x,
            y,
            xerr=point.std or None,
            yerr=half or None,
            color=look.colour,
            marker=look.marker,
            markersize=9,
            markeredgecolor="white" if point.solid else look.colour,
            markerfacecolor=look.colour if point.solid else "white",
            markeredgewidth=1,
            elinewidth=1.4,
            capsize=3,
            zorder=4,
        )
        if point.on_front or len(points) <= LABELLED:
            labels.append(Label(x, y, row.order, look.colour, (y - half, y + half)))
    axes.margins(x=0.14, y=0.16)
    axes.set_xlabel(f"← smaller    {size}", fontsize=11)
    axes.set_ylabel(f"test {label(metric)}", fontsize=11)
    place(axes, labels, avoid=staircase, size=11)


def draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Draws the front as a staircase and returns its corners."""
    best = sorted(points)
    if len(best) < 2:
        return []
    corners = [best[0]]
    for (_, below), (x, y) in pairwise(best):
        corners += [(x, below), (x, y)]
    axes.plot(*zip(*corners, strict=True), color=MUTED, linewidth=1.3, linestyle=(0, (5, 3)), alpha=0.7, zorder=2)
    return corners


def scale_costs(axes: Axes, sizes: Sequence[float]) -> None:
    """Makes the axis logarithmic if footprints span a wide range, with ticks at 1, 2 and 5."""
    if min(sizes) <= 0 or max(sizes) / min(sizes) < LOG_FROM:
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
