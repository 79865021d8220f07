"""A forest plot of the order effect: a row for each task, family of event times and target."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qp_runner.report.forest import CONTROLLED, ForestRow
from qp_runner.report.plots.style import COLOURS, INK, MUTED, canvas, svg, tidy
from qp_runner.report.words import number, p_value

ROW, FOOT, HEAD = 27, 78, 34  # pixels
LINEAR = 3.0  # up to this many units the axis is linear, beyond it logarithmic
TICKS = (1, 3, 10, 30, 100, 300, 1000)
P_COLOUR, Q_COLOUR = COLOURS[0], COLOURS[1]
NARROW = 600  # pixels: below it, labels take two lines


def forest_plot(rows: Sequence[ForestRow], *, width: int, name: str) -> str:
    """The rows that have a mean in units of float's spread, as an HTML element."""
    with canvas(width, height(rows, width=width)) as figure:
        draw_forest(figure, rows, narrow=width < NARROW)
        return svg(figure, title="order effect by task, in standard deviations of the float runs", name=name)


def height(rows: Sequence[ForestRow], *, width: int) -> int:
    """The height of the picture in pixels."""
    return HEAD + FOOT + ROW * (2 if width < NARROW else 1) * len(drawn(rows))


def drawn(rows: Sequence[ForestRow]) -> list[ForestRow]:
    """The rows that the axis has a place for."""
    return [row for row in rows if row.mean is not None]


def draw_forest(figure: Figure, rows: Sequence[ForestRow], *, narrow: bool = False) -> None:
    """Diamonds are means, lines 95 % intervals; in colour where a difference stands after Holm's correction."""
    axes, chosen = figure.subplots(), drawn(rows)
    tidy(axes, grid="x")
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    for index, row in enumerate(chosen):
        _draw(axes, row, -index)
        if index and row.section is not chosen[index - 1].section:
            axes.axhline(0.5 - index, color=MUTED, linewidth=0.6, alpha=0.5)
    axes.set_ylim(0.6 - len(chosen), 0.9)
    axes.set_yticks([-index for index in range(len(chosen))], _labels(chosen, between="\n" if narrow else " · "))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    _scale(axes, [abs(end) for row in chosen for end in (row.mean or 0.0, *(row.interval or ()))])
    unit = "standard deviations of the float runs" + ("" if narrow else " over seeds; p after Holm, all rows")
    axes.set_xlabel(f"advantage of P first, {unit}", fontsize=10 if narrow else 11)
    short = "" if narrow else " is better"
    axes.set_title(f"◀ Q first{short}", loc="left", fontsize=11, fontweight="bold", color=Q_COLOUR)
    axes.set_title(f"P first{short} ▶", loc="right", fontsize=11, fontweight="bold", color=P_COLOUR)


def _draw(axes: Axes, row: ForestRow, y: float) -> None:
    mean = row.mean or 0.0
    colour = (P_COLOUR if mean > 0 else Q_COLOUR) if row.shown else MUTED
    if row.interval is not None:
        axes.plot(row.interval, [y, y], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)
    filled = colour if row.interval is not None else "white"  # hollow: no interval
    marker = "D" if row.family == CONTROLLED else "o"
    axes.plot([mean], [y], marker, color=filled, markeredgecolor=colour, markersize=7.5, zorder=3)
    said = f"n={row.effect.paired.n}" + ("" if row.p_holm is None else f", {p_value(row.p_holm)}")
    text = axes.text(1.01, y, said, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=colour)
    text.set_in_layout(True)


def _labels(rows: Sequence[ForestRow], *, between: str) -> list[str]:
    """Task and data of each row, with model and way of training where these alone tell two sections apart."""
    names = []
    for row in rows:
        section = row.section
        others = [each.section for each in rows if each.section is not section]
        name = f"{section.task.replace('_', ' ')}, {section.data}"
        alike = [each for each in others if (each.task, each.data) == (section.task, section.data)]
        name += f", {section.model}" if any(each.model != section.model for each in alike) else ""
        name += f", {section.variant or 'default'}" if any(each.variant != section.variant for each in alike) else ""
        names.append(f"{name}{between}{row.target} {row.family}")
    return names


def _scale(axes: Axes, ends: Sequence[float]) -> None:
    """Centred on zero, so that no side looks favoured; logarithmic where the effects span orders of magnitude."""
    reach = 1.15 * max(ends, default=1.0) or 1.0
    if reach > 2 * LINEAR:
        axes.set_xscale("symlog", linthresh=LINEAR)
        ticks = [tick for tick in TICKS if tick < reach]
        axes.set_xticks([*(-tick for tick in reversed(ticks)), 0, *ticks])
        axes.xaxis.set_major_formatter(lambda value, _: number(value).removesuffix(".00"))
        axes.minorticks_off()
    axes.set_xlim(-reach, reach)
