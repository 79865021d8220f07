"""A plot of the order effect: every seed's difference, their mean, and its interval."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect
from qp_runner.report.plots.style import INK, MUTED, Looks, canvas, svg, tidy
from qp_runner.report.words import points

ROW, FOOT = 74, 52


def effect_plot(effects: Sequence[Effect], *, metric: Metric, looks: Looks, width: int, name: str) -> str:
    """A row for each pair of orders: right of zero the first is better, left of it the second."""
    with canvas(width, ROW * len(effects) + FOOT) as figure:
        axes = figure.subplots()
        tidy(axes, grid="x")
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        for index, effect in enumerate(effects):
            _draw(axes, effect, -index, looks)
        axes.set_ylim(-len(effects) + 0.55, 0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        ends = [abs(end) for effect in effects for end in (*(effect.paired.interval or ()), *effect.differences)]
        reach = 1.12 * max(ends, default=1.0) or 1.0
        axes.set_xlim(-reach, reach)  # centred on zero, so that no side looks favoured
        unit = f", {points(metric)}" if metric.unit else ""
        axes.set_xlabel(f"difference in {metric.name}{unit}", fontsize=11)
        return svg(figure, title=f"paired differences in {metric.name} between orders", name=name)


def _draw(axes: Axes, effect: Effect, y: float, looks: Looks) -> None:
    found = effect.paired
    colour = looks[effect.winner.schedule].colour if effect.shown else MUTED
    if found.interval is not None:
        axes.plot(found.interval, [y, y], color=colour, linewidth=7, alpha=0.28, solid_capstyle="butt", zorder=2)
        axes.vlines(found.interval, y - 0.1, y + 0.1, color=colour, linewidth=1.6, zorder=3)
    below = [y - 0.22] * found.n  # the band, so that neither covers the other
    axes.scatter(effect.differences, below, s=26, facecolor="white", edgecolor=colour, linewidth=1.3, zorder=4)
    if found.n > 1:
        axes.scatter([found.mean], [y], s=62, marker="D", color=colour, edgecolor="white", zorder=5)
    for side, edge, align, text in (
        (effect.second, 0.0, "left", f"◀ {effect.second.order} better"),
        (effect.first, 1.0, "right", f"{effect.first.order} better ▶"),
    ):
        axes.text(
            edge,
            y + 0.34,
            text,
            transform=axes.get_yaxis_transform(),
            ha=align,
            va="center",
            fontsize=10,
            fontweight="bold",
            color=looks[side.schedule].colour,
        ).set_in_layout(False)
