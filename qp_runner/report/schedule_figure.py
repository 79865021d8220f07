"""A compiled schedule as a figure: sparsity and bits of both targets over the epochs."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qp_runner.schedule import FLOAT_BITS, LETTERS, Op, Stage, Target, first_event, recovery, total_steps

COLOURS = {Target.WEIGHT: "#1f6fb4", Target.ACTIVATION: "#c8641b"}
INK, FAINT = "#333333", "#e9e9e9"
GRID = {"height_ratios": [5, 1, 5, 1], "hspace": 0.14, "left": 0.09, "right": 0.94, "top": 0.89, "bottom": 0.105}
"""Fixed margins, since computing them would take half of the drawing time."""


def schedule_figure(stages: Sequence[Stage], *, steps_per_epoch: int, title: str) -> Figure:
    """For each target, sparsity as a filled curve and bits as a strip; P and Q mark events, grey the recovery.

    A plain Figure without window or global state: save it with `figure.savefig(path)`.
    """
    figure = Figure(figsize=(9, 4.6), dpi=150)
    figure.suptitle(title, fontsize=13, color=INK)
    axes = figure.subplots(4, 1, sharex=True, gridspec_kw=GRID)
    top = max(stage.state(target).sparsity for stage in stages for target in Target)
    for target, sparsity, bits in zip(Target, axes[::2], axes[1::2], strict=True):
        _draw_sparsity(sparsity, stages, target, steps_per_epoch=steps_per_epoch, top=top)
        _draw_bits(bits, stages, target, steps_per_epoch)
        _mark_events(sparsity, stages, target, steps_per_epoch)
    _draw_recovery(axes, stages, steps_per_epoch)
    axes[-1].set_xlim(0, total_steps(stages) / steps_per_epoch)
    axes[-1].set_xlabel("epoch", color=INK)
    for axis in axes[::2]:
        axis.yaxis.set_label_coords(-0.055, 0.5)
    return figure


def _draw_sparsity(axis: Axes, stages: Sequence[Stage], target: Target, *, steps_per_epoch: int, top: float) -> None:
    edges = [stage.first / steps_per_epoch for stage in stages] + [total_steps(stages) / steps_per_epoch]
    values = [100 * stage.state(target).sparsity for stage in stages]
    axis.stairs(values, edges, baseline=0, fill=True, color=COLOURS[target], alpha=0.25)
    axis.stairs(values, edges, baseline=None, color=COLOURS[target], linewidth=2)
    axis.set_ylim(0, 130 * top or 100)
    axis.set_ylabel(f"{target}\nsparsity %", color=COLOURS[target])
    _write_final(axis, f"{values[-1]:.3g}%", values[-1], COLOURS[target])
    axis.tick_params(bottom=False)
    _tidy(axis, "top", "right")


def _draw_bits(axis: Axes, stages: Sequence[Stage], target: Target, steps_per_epoch: int) -> None:
    """Ranges of equal bits, darker for fewer bits."""
    cuts = [stage for i, stage in enumerate(stages) if i == 0 or (Op.QUANTIZE, target) in stage.fires]
    end = total_steps(stages)
    for stage, following in zip(cuts, [*(cut.first for cut in cuts[1:]), end], strict=True):
        bits = stage.state(target).bits
        quantized = bits < FLOAT_BITS
        left, right = stage.first / steps_per_epoch, following / steps_per_epoch
        shade = 0.9 - 0.5 * (bits - 2) / 14 if quantized else 1.0
        axis.barh(
            0,
            right - left,
            left=left,
            height=1,
            alpha=shade,
            edgecolor="white",
            color=COLOURS[target] if quantized else FAINT,
        )
        if (following - stage.first) / end > 0.03:
            axis.text(
                (left + right) / 2,
                0,
                str(bits),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if quantized else INK,
            )
    axis.set_ylim(-0.5, 0.5)
    axis.set_yticks([])
    axis.set_ylabel("bits", color=COLOURS[target], rotation=0, ha="right", va="center")
    _write_final(axis, f"{stages[-1].state(target).bits} bit", 0, COLOURS[target])
    _tidy(axis, "top", "right", "left", *(["bottom"] if target == Target.WEIGHT else []))
    axis.tick_params(bottom=target != Target.WEIGHT)


def _mark_events(axis: Axes, stages: Sequence[Stage], target: Target, steps_per_epoch: int) -> None:
    """A dotted line and P, Q or P+Q for each event; letters that would overlap are left out or set lower."""
    end, last_at, last_text, low = total_steps(stages) / steps_per_epoch, -1.0, "", False
    for stage in stages:
        text = "+".join(LETTERS[op] for op in Op if (op, target) in stage.fires)
        if not text:
            continue
        at = stage.first / steps_per_epoch
        axis.axvline(at, color=INK, linewidth=0.8, linestyle=":")
        close = last_at >= 0 and at - last_at < 0.022 * end
        if close and text == last_text:
            continue
        low = close and not low
        side = -1 if at > 0.96 * end else 1
        axis.annotate(
            text,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2 * side, -12 if low else -2),
            textcoords="offset points",
            ha="left" if side == 1 else "right",
            va="top",
            fontsize=8,
            color=INK,
        )
        last_at, last_text = at, text


def _draw_recovery(axes: Sequence[Axes], stages: Sequence[Stage], steps_per_epoch: int) -> None:
    end, steps = total_steps(stages), recovery(stages)
    if first_event(stages) is None:
        return
    for axis in axes[::2]:  # on the bits it would look like another bit width
        axis.axvspan((end - steps) / steps_per_epoch, end / steps_per_epoch, color="#000000", alpha=0.06, linewidth=0)
    axes[0].set_title(
        f"recovery {steps / steps_per_epoch:.3g} epochs, {steps / end:.1%} of training",
        loc="right",
        fontsize=9,
        color=INK,
    )


def _write_final(axis: Axes, text: str, height: float, colour: str) -> None:
    axis.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=9,
        color=colour,
        annotation_clip=False,
    )


def _tidy(axis: Axes, *hidden: str) -> None:
    axis.tick_params(colors=INK, labelsize=9)
    for side in hidden:
        axis.spines[side].set_visible(False)
