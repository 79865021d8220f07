"""The style of all plots: a schedule has the same colour and marker everywhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qp_runner.report.rows import Row

INK, MUTED, GRID = "#1f2328", "#626a73", "#e7eaee"
FLOAT_COLOUR = "#6b7280"
# Okabe & Ito (2008), distinct for all kinds of colour vision; without yellow, too pale for lines on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8539a", "#c98a00", "#3f9fd8", INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
SETTINGS = {
    "svg.fonttype": "none",  # keeps text as text: the page's font, selectable, searchable
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.hashsalt": "report",  # the same figure is the same file
    "font.size": 11,
    "axes.edgecolor": "#b6bcc4",
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.linewidth": 0.8,
}


@dataclass(frozen=True)
class Look:
    """How a schedule is drawn, distinct without colour too."""

    colour: str
    marker: str


Looks = Mapping[str, Look]
"""By schedule."""


def assign_looks(rows: Sequence[Row]) -> Looks:
    """A look for every schedule, in the order of the rows; the uncompressed network, the baseline, is grey."""
    plain = {row.schedule: Look(FLOAT_COLOUR, "o") for row in rows if row.is_float}
    others = [name for name in dict.fromkeys(row.schedule for row in rows) if name not in plain]
    looks = zip(others, cycle(COLOURS), cycle(MARKERS), strict=False)
    return plain | {name: Look(colour, marker) for name, colour, marker in looks}


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in pixels, without window or global state."""
    with mpl.rc_context(SETTINGS):
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")


@contextmanager
def save_png(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in pixels, written as a PNG of twice that size at the end."""
    with canvas(width, height) as figure:
        yield figure
        figure.savefig(path, dpi=144, facecolor="white", metadata={"Software": None})


def tidy(axes: Axes, *, grid: str = "y") -> None:
    """Removes the frame and draws a pale grid behind the data."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3, width=0.8, labelsize=10)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def svg(figure: Figure, *, title: str, name: str) -> str:
    """The figure as an HTML element; `title` is its label, `name` makes its ids unique on the page."""
    out = StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, _, drawn = out.getvalue().partition("<svg")
    drawn = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    return f'<svg role="img" aria-label="{escape(title)}"{drawn}'
