"""A compiled schedule as a picture: sparsity and bits of both targets over the epochs."""

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from qp_runner.schedule import FLOAT_BITS, LETTERS, Op, Stage, Target, first_event, recovery, total_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {Target.WEIGHT: "#1f6fb4", Target.ACTIVATION: "#c8641b"}
INK, FAINT = "#333333", "#e9e9e9"
GRID = {"height_ratios": [5, 1, 5, 1], "hspace": 0.14, "left": 0.09, "right": 0.94, "top": 0.89, "bottom": 0.105}
"""Fixed margins, since computing them would take half of the drawing time."""


@lru_cache(maxsize=64)
def schedule_png(stages: tuple[Stage, ...], steps_per_epoch: int, title: str) -> bytes:
    """The picture of `schedule_figure` as PNG. Drawing takes a tenth of a second, and a sweep's seeds share it."""
    file = io.BytesIO()
    schedule_figure(stages, steps_per_epoch=steps_per_epoch, title=title).savefig(file, dpi=150)
    return file.getvalue()


def schedule_figure(stages: Sequence[Stage], *, steps_per_epoch: int, title: str) -> "Figure":
    """For each target, sparsity as a filled curve and bits as a strip; P and Q mark events, grey the recovery."""
    from matplotlib.figure import Figure  # here, so that only who draws imports matplotlib

    figure = Figure(figsize=(9, 4.6), dpi=150)
    figure.suptitle(title, fontsize=13, color=INK)
    axes = figure.subplots(4, 1, sharex=True, gridspec_kw=GRID)
    trained = total_steps(stages) > 0
    edges = [stage.first / steps_per_epoch for stage in stages] + [total_steps(stages) / steps_per_epoch]
    if not trained:
        edges = [float(number) for number in range(len(stages) + 1)]
    for target, sparsity, bits in zip(Target, axes[::2], axes[1::2], strict=True):
        _draw_sparsity(sparsity, stages, target, edges)
        _draw_bits(bits, stages, target, edges)
        _mark_events(sparsity, stages, target, edges)
        sparsity.yaxis.set_label_coords(-0.055, 0.5)
    top = max(stage.state(target).sparsity for stage in stages for target in Target)
    for axis in axes[::2]:
        axis.set_ylim(0, 130 * top or 100)
    if trained and first_event(stages) is not None:
        steps, end = recovery(stages), total_steps(stages)
        for axis in axes[::2]:  # on the bits it would look like another bit width
            axis.axvspan(edges[-1] - steps / steps_per_epoch, edges[-1], color="#000000", alpha=0.06, linewidth=0)
        text = f"recovery {steps / steps_per_epoch:.3g} epochs, {steps / end:.1%} of training"
        axes[0].set_title(text, loc="right", fontsize=9, color=INK)
    axes[-1].set_xlim(0, edges[-1])
    axes[-1].set_xlabel("epoch" if trained else "events after training, in their order", color=INK)
    return figure


def _draw_sparsity(axis: "Axes", stages: Sequence[Stage], target: Target, edges: Sequence[float]) -> None:
    values, colour = [100 * stage.state(target).sparsity for stage in stages], COLOURS[target]
    axis.stairs(values, edges, baseline=0, fill=True, color=colour, alpha=0.25)
    axis.stairs(values, edges, baseline=None, color=colour, linewidth=2)
    axis.set_ylabel(f"{target}\nsparsity %", color=colour)
    _tidy(axis, f"{values[-1]:.3g}%", values[-1], colour, hidden=["top", "right"])
    axis.tick_params(bottom=False)


def _draw_bits(axis: "Axes", stages: Sequence[Stage], target: Target, edges: Sequence[float]) -> None:
    """Ranges of equal bits, darker for fewer bits."""
    cuts = [i for i, stage in enumerate(stages) if i == 0 or (Op.QUANTIZE, target) in stage.fires]
    for cut, following in zip(cuts, [*cuts[1:], len(stages)], strict=True):
        bits, left, right = stages[cut].state(target).bits, edges[cut], edges[following]
        colour, ink, shade = COLOURS[target], "white", 0.9 - 0.5 * (bits - 2) / 14
        if bits == FLOAT_BITS:
            colour, ink, shade = FAINT, INK, 1.0
        axis.barh(0, right - left, left=left, height=1, alpha=shade, edgecolor="white", color=colour)
        if right - left > 0.03 * edges[-1]:
            axis.text((left + right) / 2, 0, str(bits), ha="center", va="center", fontsize=9, color=ink)
    axis.set_ylim(-0.5, 0.5)
    axis.set_yticks([])
    axis.set_ylabel("bits", color=COLOURS[target], rotation=0, ha="right", va="center")
    upper = target == Target.WEIGHT
    final = f"{stages[-1].state(target).bits} bit"
    _tidy(axis, final, 0, COLOURS[target], hidden=["top", "right", "left", *(["bottom"] if upper else [])])
    axis.tick_params(bottom=not upper)


def _mark_events(axis: "Axes", stages: Sequence[Stage], target: Target, edges: Sequence[float]) -> None:
    """A dotted line and P, Q or P+Q for each event; letters that would overlap are left out or set lower."""
    end, last_at, last_text, low = edges[-1], -1.0, "", False
    for at, stage in zip(edges, stages, strict=False):
        text = "+".join(LETTERS[op] for op in Op if (op, target) in stage.fires)
        if not text:
            continue
        axis.axvline(at, color=INK, linewidth=0.8, linestyle=":")
        close = last_at >= 0 and at - last_at < 0.022 * end
        if close and text == last_text:
            continue
        low = close and not low
        side = -1 if at > 0.96 * end else 1
        place, align = axis.get_xaxis_transform(), "left" if side == 1 else "right"
        x, y = at + side * 0.004 * end, 0.88 if low else 0.98
        axis.text(x, y, text, transform=place, ha=align, va="top", fontsize=8, color=INK)
        last_at, last_text = at, text


def _tidy(axis: "Axes", final: str, height: float, colour: str, *, hidden: list[str]) -> None:
    """Writes the final value beside the axis, and removes the sides that say nothing."""
    axis.text(1.011, height, final, transform=axis.get_yaxis_transform(), va="center", fontsize=9, color=colour)
    axis.tick_params(colors=INK, labelsize=9)
    axis.spines[hidden].set_visible(False)
