"""Labels next to their points that cover neither each other nor the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

RADII = (10, 16, 24, 34, 46, 60, 80)
DIRECTIONS = [2 * math.pi * step / 16 for step in range(16)]
LEADER = 20  # from this distance on, a line connects the point and its label
POINT = 6


@dataclass(frozen=True)
class Label:
    """A text for a point in data coordinates; `reach` is the extent of its error bar, (low, high) in y."""

    x: float
    y: float
    text: str
    colour: str
    reach: tuple[float, float]


def place(axes: Axes, labels: Sequence[Label], *, size: float, avoid: Sequence[tuple[float, float]] = ()) -> None:
    """Draws each label at the nearest free position, which also avoids the line through `avoid` (of vertical and
    horizontal segments).

    The figure's layout must not change afterwards.
    """
    figure = axes.get_figure()
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [_obstacle(axes, label) for label in labels]
    if avoid:
        taken += [_thick(start, end) for start, end in pairwise(axes.transData.transform(avoid))]
    inside = axes.get_window_extent(renderer)
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    crowded = sorted(range(len(labels)), key=lambda i: -sum(math.dist(points[i], other) < 60 for other in points))
    for index in crowded:
        label, (x, y) = labels[index], points[index]
        width, height = _size(axes, label.text, size, renderer)
        boxes = [_box(x, y, width, height, radius=r, angle=a) for r in RADII for a in DIRECTIONS]
        best = min(boxes, key=lambda box: _cost(box, taken, inside, (x, y)))
        taken.append(best)
        _draw(axes, label, best, (x, y), size)


def _size(axes: Axes, text: str, size: float, renderer: object) -> tuple[float, float]:
    probe = Text(0, 0, text, fontsize=size, fontweight="bold", figure=axes.get_figure())
    box = probe.get_window_extent(renderer)  # type: ignore[arg-type]
    return box.width + 4, box.height + 2


def _obstacle(axes: Axes, label: Label) -> Bbox:
    """The point with its marker and its error bar."""
    (x, low), (_, high) = axes.transData.transform([(label.x, label.reach[0]), (label.x, label.reach[1])])
    _, y = axes.transData.transform((label.x, label.y))
    return Bbox.from_extents(x - POINT, min(low, y - POINT), x + POINT, max(high, y + POINT))


def _thick(start: Sequence[float], end: Sequence[float]) -> Bbox:
    """A segment of a line, with the margin of a label."""
    (left, right), (low, high) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return Bbox.from_extents(left - 2, low - 2, right + 2, high + 2)


def _box(x: float, y: float, width: float, height: float, *, radius: float, angle: float) -> Bbox:
    """A box whose nearest side or corner is `radius` away from the point, in direction `angle`."""
    across, up = math.cos(angle), math.sin(angle)
    left = x + radius * across + width * (across - 1) / 2
    bottom = y + radius * up + height * (up - 1) / 2
    return Bbox.from_bounds(left, bottom, width, height)


def _cost(box: Bbox, taken: Sequence[Bbox], inside: Bbox, point: tuple[float, float]) -> float:
    """Overlap and area outside the axes, then the distance."""
    covered = sum(_area(box, other) for other in taken)
    outside = box.width * box.height - _area(box, inside)
    nearest = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
    return 100 * covered + 100 * outside + math.dist(point, nearest)


def _area(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def _draw(axes: Axes, label: Label, box: Bbox, point: tuple[float, float], size: float) -> None:
    centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    far = math.dist(point, (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))) > LEADER
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 5}
    note = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(centre[0] - point[0], centre[1] - point[1]),
        textcoords="offset points",  # figures have 72 dpi: a point is a pixel
        ha="center",
        va="center",
        fontsize=size,
        fontweight="bold",
        color=label.colour,
        arrowprops=line if far else None,
        zorder=6,
    )
    note.set_in_layout(False)
