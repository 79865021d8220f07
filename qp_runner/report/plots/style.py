"""The style of all plots: a schedule has the same colour and marker everywhere."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1f2328", "#626a73", "#e7eaee", "#ffffff"
FLOAT_COLOUR = "#6b7280"
# Okabe & Ito (2008), distinct for all kinds of colour vision; without yellow, too pale for lines on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8539a", "#c98a00", "#3f9fd8")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
SETTINGS = {
    "svg.fonttype": "none",  # keeps text as text: the page's font, selectable, searchable
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


class Looks:
    """Looks by schedule, assigned in the order of the names."""

    def __init__(self, schedules: Sequence[str], *, uncompressed: Sequence[str] = ("float",)) -> None:
        """`uncompressed` schedules, the baseline, are grey."""
        others = [name for name in dict.fromkeys(schedules) if name not in uncompressed]
        self._looks = {
            name: Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
            for index, name in enumerate(others)
        }

    def __getitem__(self, schedule: str) -> Look:
        return self._looks.get(schedule, Look(FLOAT_COLOUR, "o"))


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in pixels, without window or global state."""
    with mpl.rc_context(SETTINGS):
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")


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
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # implied in HTML
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text
    )  # unused ids might be duplicates on a page
    width, height = (round(float(size)) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    text = re.sub(r'width="[\d.]+pt"', f'width="{width}"', text, count=1)
    text = re.sub(r'height="[\d.]+pt"', f'height="{height}"', text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def escape(text: str) -> str:
    """Text as an attribute's value."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
