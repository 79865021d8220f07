"""When a run was compressed, from its recorded metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qp_runner.schedule import FLOAT_BITS, LETTERS, Op, Target

START = {"sparsity": (Op.PRUNE, 0.0), "bits": (Op.QUANTIZE, FLOAT_BITS)}
"""The op of a recorded series, and its value without compression."""


@dataclass(frozen=True)
class Change:
    """A new sparsity (`op` P) or number of bits (Q) of weights (`target` w) or activations (f) at a training step."""

    step: int
    op: str
    target: str
    value: float


@dataclass(frozen=True)
class Mark:
    """Changes of one op close together in steps `first` to `last`, shown as one event."""

    op: str
    targets: str
    first: int
    last: int

    @property
    def label(self) -> str:
        """`P(w,f)`."""
        return f"{self.op}({','.join(self.targets)})"


def changes(histories: pd.DataFrame, run_id: str) -> list[Change]:
    """The changes of a run, in order. A new calibration to the same bits is not recorded."""
    own = histories[histories["run_id"] == run_id]
    found: list[Change] = []
    for what, (op, start) in START.items():
        for target in Target:
            now: float = start
            series = own[own["name"] == f"{what}_{target}"].sort_values("step")
            for step, value in zip(series["step"], series["value"], strict=True):
                if value != now:
                    found.append(Change(int(step), LETTERS[op], LETTERS[target], float(value)))
                now = value
    return sorted(found, key=lambda change: (change.step, change.op, change.target))


def marks(found: Sequence[Change], *, gap: float) -> list[Mark]:
    """Changes of one op, merged where at most `gap` steps lie between them."""
    joined: list[Mark] = []
    for op in ("P", "Q"):
        group: list[Change] = []
        for change in (each for each in found if each.op == op):
            if group and change.step - group[-1].step > gap:
                joined.append(_mark(group))
                group = []
            group.append(change)
        joined += [_mark(group)] if group else []
    return sorted(joined, key=lambda mark: (mark.first, mark.op))


def _mark(group: Sequence[Change]) -> Mark:
    targets = "".join(sorted({change.target for change in group}, reverse=True))
    return Mark(group[0].op, targets, group[0].step, group[-1].step)
