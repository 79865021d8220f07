"""When a run was compressed, from its recorded metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qp_runner.schedule import FLOAT_BITS, LETTERS, Op, Target

START = {"sparsity": (Op.PRUNE, 0.0), "bits": (Op.QUANTIZE, FLOAT_BITS)}
"""The op of a recorded series, and its value without compression."""


@dataclass(frozen=True)
class Change:
    """A new sparsity (`op` P) or number of bits (Q) of weights (`targets` w) or activations (f) at a training step.

    Several changes of one op close together are shown as one, at the first's step, with `targets` such as `w,f`.
    """

    step: int
    op: str
    targets: str


def changes(histories: pd.DataFrame, run_id: str) -> list[Change]:
    """The changes of a run, in order. A new calibration to the same bits is not recorded."""
    own = histories[histories["run_id"] == run_id].sort_values("step")
    found: list[Change] = []
    for what, (op, start) in START.items():
        for target in Target:
            series = own[own["name"] == f"{what}_{target}"]
            steps = series["step"][series["value"] != series["value"].shift(fill_value=float(start))]
            found += [Change(int(step), LETTERS[op], LETTERS[target]) for step in steps]
    return sorted(found, key=lambda change: (change.step, change.op, change.targets))


def joined(found: Sequence[Change], *, gap: float) -> list[Change]:
    """Changes of one op as one, where at most `gap` steps lie between neighbours."""
    groups: list[list[Change]] = []
    for change in sorted(found, key=lambda each: each.op):  # stable: by rising step within each op
        last = groups[-1][-1] if groups else None
        if last is not None and last.op == change.op and change.step - last.step <= gap:
            groups[-1].append(change)
        else:
            groups.append([change])
    return [
        Change(group[0].step, group[0].op, ",".join(sorted({each.targets for each in group}, reverse=True)))
        for group in groups
    ]
