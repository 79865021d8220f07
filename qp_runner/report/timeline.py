"""A compiled schedule drawn in the terminal, for `qp-runner plan`."""

import math
from collections.abc import Sequence
from fractions import Fraction

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qp_runner.report.words import epochs
from qp_runner.schedule import FLOAT_BITS, LETTERS, Op, Stage, Target, TargetState, first_event, recovery, total_steps

ROWS = 3  # character rows of a sparsity chart
LEFT, RIGHT = 17, 8  # columns for names and scale, and for final values
BLOCKS = " ▁▂▃▄▅▆▇█"
COLOURS = {Target.WEIGHT: "cyan", Target.ACTIVATION: "magenta"}


def terminal_timeline(stages: Sequence[Stage], *, steps_per_epoch: int, width: int) -> RenderableType:
    """Sparsity and bits of both targets over the epochs, a table of the stages, first event and recovery.

    Args:
        stages: from `Schedule.compile`.
        steps_per_epoch: training steps of an epoch, for the axis.
        width: columns to fill, at least 60.
    """
    canvas = _Canvas(stages, max(width, 60) - LEFT - RIGHT)
    parts: list[RenderableType] = []
    for target in Target:
        parts += [*_sparsity_rows(canvas, target), _bits_row(canvas, target), Text()]
    parts += [_marker_row(canvas), *_axis_rows(canvas, steps_per_epoch)]
    return Group(*parts, _stage_table(stages, steps_per_epoch), *_summary(stages, steps_per_epoch))


class _Canvas:
    """Maps steps to columns.

    Attributes:
        columns: all there are. Each stage after the last step has one at the end; if nothing is trained they share all.
        trained: the columns of training.
        shown: the stage at the end of each column, so that a change appears in the column of its event.
    """

    def __init__(self, stages: Sequence[Stage], columns: int) -> None:
        self.stages, self.columns = stages, columns
        self.after = [stage for stage in stages if stage.first == total_steps(stages)]
        self._width = columns // len(self.after) if total_steps(stages) == 0 else 1
        self.trained = columns - len(self.after) if total_steps(stages) else 0
        ends = [math.ceil(Fraction((i + 1) * total_steps(stages), self.trained)) for i in range(self.trained)]
        self.shown = [next(stage for stage in stages if stage.first < end <= stage.last + 1) for end in ends]
        self.shown += [stage for stage in self.after for _ in range(self._width)]
        self.shown += [stages[-1]] * (columns - len(self.shown))

    def column(self, stage: Stage) -> int:
        """The column in which a stage begins."""
        if stage in self.after:
            return self.trained + self.after.index(stage) * self._width
        return stage.first * self.trained // total_steps(self.stages)


def _sparsity_rows(canvas: _Canvas, target: Target) -> list[Text]:
    """A bar chart from 0 to the target's final sparsity."""
    levels = [stage.state(target).sparsity for stage in canvas.shown]
    top = max(levels)
    if top == 0:
        return [_line(f"{target:<10}{'0%':>5} ┤", "·" * canvas.columns, " 0%", COLOURS[target])]
    rows = []
    for row in reversed(range(ROWS)):
        bars = "".join(_block(level / top, row) for level in levels)
        scale = {ROWS - 1: _percent(top), 0: "0%"}.get(row, "")
        name = str(target) if row == ROWS - 1 else "sparsity" if row == ROWS - 2 else ""
        final = f" {_percent(levels[-1])}" if row == ROWS - 1 else ""
        rows.append(_line(f"{name:<10}{scale:>5}{'┤' if scale else '│':>2}", bars, final, COLOURS[target]))
    return rows


def _block(height: float, row: int) -> str:
    """One character of a bar whose height is a share of all rows; empty only for 0."""
    if height == 0:
        return "·" if row == 0 else " "
    eighths = max(math.floor(height * ROWS * 8), 1)
    return BLOCKS[min(max(eighths - row * 8, 0), 8)]


def _bits_row(canvas: _Canvas, target: Target) -> Text:
    """A line of ranges of equal bits, thick where quantized, `┣` where quantization fires."""
    fired = {canvas.column(s) for s in canvas.stages if (Op.QUANTIZE, target) in s.fires}
    starts, line = sorted({0, *fired}), ""
    for start, end in zip(starts, [*starts[1:], canvas.columns], strict=True):
        bits = canvas.shown[start].state(target).bits
        fill = "─" if bits == FLOAT_BITS else "━"
        label = f" {bits} " if end - start >= 6 else ""
        body = label.center(end - start, fill)
        line += body if start not in fired else ("┣" if bits != FLOAT_BITS else "├") + body[1:]
    final = canvas.stages[-1].state(target).bits
    return _line(f"{'bits':<10}{'':>5} │", line, f" {final} bit", COLOURS[target])


def _marker_row(canvas: _Canvas) -> Text:
    """P, Q or * in the columns where pruning, quantization or both fire."""
    marks = [" "] * canvas.columns
    for stage in canvas.stages:
        for op, _ in stage.fires:
            column = canvas.column(stage)
            marks[column] = LETTERS[op] if marks[column] in (" ", LETTERS[op]) else "*"
    return _line(f"{'events':<{LEFT}}", "".join(marks), "", "bold yellow")


def _axis_rows(canvas: _Canvas, steps_per_epoch: int) -> list[Text]:
    """The ruler in epochs, a double line along the recovery."""
    length = total_steps(canvas.stages) / steps_per_epoch
    if not length:
        line = " " * (LEFT - 1) + "└" + "─" * canvas.columns
        return [Text(line), Text(" " * LEFT + "no training; P prunes, Q quantizes, * both, in this order", "dim")]
    gap = _nice(length * 9 / canvas.columns)
    ruler, labels = ["─"] * (canvas.trained + 1), [" "] * (canvas.columns + RIGHT)
    if first_event(canvas.stages) is not None and recovery(canvas.stages):
        last = canvas.column(canvas.stages[-1])
        ruler[last:] = "═" * len(ruler[last:])
    for i in range(math.floor(length / gap + 1e-9) + 1):
        column = min(math.floor(i * gap / length * canvas.trained + 1e-9), canvas.trained)
        if i:
            ruler[column] = "╧" if ruler[column] == "═" else "┴"
        label = f"{i * gap:g}"
        start = max(column - len(label) // 2, 0)
        labels[start : start + len(label)] = label
    rows = [f"{'epoch':<{LEFT}}" + "".join(labels).rstrip(), " " * LEFT + "P prunes, Q quantizes, * both; ═ recovery"]
    return [Text(" " * (LEFT - 1) + "└" + "".join(ruler)), *(Text(row, "dim") for row in rows)]


def _nice(gap: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is at least `gap`."""
    power = 10.0 ** math.floor(math.log10(gap))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= gap * (1 - 1e-9))


def _stage_table(stages: Sequence[Stage], steps_per_epoch: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("stage", "steps", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for target in Target:
        table.add_column(str(target), justify="right", style=COLOURS[target], no_wrap=True)
    table.add_column("fires")
    for index, stage in enumerate(stages):
        table.add_row(
            str(index),
            f"{stage.first:,} – {stage.last:,}" if stage.steps else f"after {stage.last:,}",
            f"{epochs(stage.first, steps_per_epoch)} – {epochs(stage.last + 1, steps_per_epoch)}",
            *(f"{_percent(stage.state(target).sparsity)} {stage.state(target).bits:>3}b" for target in Target),
            _fires(stage),
        )
    return table


def _fires(stage: Stage) -> str:
    """Such as `P(w,f) + Q(w)`."""
    found = {op: [LETTERS[t] for t in Target if (op, t) in stage.fires] for op in Op}
    return " + ".join(f"{LETTERS[op]}({','.join(letters)})" for op, letters in found.items() if letters)


def _summary(stages: Sequence[Stage], steps_per_epoch: int) -> list[Text]:
    total, first = total_steps(stages), first_event(stages)
    if first is None:
        compressed = any(stages[0].state(target) != TargetState() for target in Target)
        return [Text(f"no events: {'compressed as it starts' if compressed else 'a float run'}")]
    return [
        Text.assemble(
            (f"{label:<11}", "bold"),
            f"{epochs(steps, steps_per_epoch):>7} epochs {steps:>9,} steps {steps / max(total, 1):>6.1%} of training",
        )
        for label, steps in (("first event", first), ("recovery", recovery(stages)))
    ]


def _percent(sparsity: float) -> str:
    return f"{round(100 * sparsity, 1):g}%"


def _line(left: str, body: str, right: str, style: str) -> Text:
    return Text.assemble((left, "bold" if left.strip() else ""), (body, style), right, no_wrap=True, overflow="crop")
