"""Labels next to their points that cover neither each other nor the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]
"""Lower left and upper right corners in pixels: one box of shape (2, 2), or n of shape (n, 2, 2)."""

RADII = (10, 16, 24, 34, 46, 60, 80)
DIRECTIONS = np.array([(math.cos(math.pi * step / 8), math.sin(math.pi * step / 8)) for step in range(16)])
LEADER = 20  # from this distance on, a line connects the point and its label
LINE = {"arrowstyle": "-", "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 5}


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
    pixels = axes.transData.transform
    taken = [_around(pixels([(label.x, end) for end in (label.y, *label.reach)]), margin=6) for label in labels]
    taken += [_around(segment, margin=2) for segment in pairwise(pixels(avoid) if avoid else ())]
    inside = axes.get_window_extent(renderer).get_points()
    points = pixels([(label.x, label.y) for label in labels])
    crowded = sorted(range(len(labels)), key=lambda i: -sum(math.dist(points[i], other) < 60 for other in points))
    for label, point in ((labels[index], points[index]) for index in crowded):
        note = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",  # figures have 72 dpi: a point is a pixel
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold",
            color=label.colour,
            arrowprops={**LINE, "color": label.colour},
            zorder=6,
        )
        note.set_in_layout(False)
        text = Text.get_window_extent(note, renderer)  # without the line
        boxes = _candidates(point, np.array([text.width + 4, text.height + 2]))
        distances = np.linalg.norm(point - np.clip(point, boxes[:, 0], boxes[:, 1]), axis=1)
        bad = sum(_overlaps(boxes, each) for each in taken) - _overlaps(boxes, inside)  # what is covered, or outside
        best = np.argmin(np.round(100 * bad + distances, 6))  # rounded: of equally good ones the first
        taken.append(boxes[best])
        note.xyann = tuple(boxes[best].mean(axis=0) - point)
        if note.arrow_patch is not None:
            note.arrow_patch.set_visible(bool(distances[best] > LEADER))


def _around(points: ArrayLike, *, margin: float) -> Boxes:
    """The smallest box that holds all points, with a margin."""
    return np.array([np.min(points, axis=0) - margin, np.max(points, axis=0) + margin])


def _candidates(point: NDArray[np.float64], size: NDArray[np.float64]) -> Boxes:
    """Boxes of a size whose nearest side or corner is one of RADII away from the point, in one of DIRECTIONS."""
    corners = [point + radius * DIRECTIONS + size * (DIRECTIONS - 1) / 2 for radius in RADII]
    low = np.concatenate(corners)
    return np.stack([low, low + size], axis=1)


def _overlaps(boxes: Boxes, other: Boxes) -> NDArray[np.float64]:
    """The area that each of the boxes shares with another one."""
    sides = np.minimum(boxes[:, 1], other[1]) - np.maximum(boxes[:, 0], other[0])
    return np.asarray(np.clip(sides, 0, None).prod(axis=1))
