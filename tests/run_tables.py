"""Tables of runs as a store or a kept file has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from qp_runner.report.read import RUN_COLUMNS, Records
from qp_runner.report.sections import Section, sections

Cell = tuple[float, int]
"""Sparsity and bits."""
PRUNED, QUANTIZED = "P{sparsity:g}(w,f)", "Q{bits}(w,f)"


def run(schedule: str, seed: int, value: float, *, task: str = "classification", **more: object) -> dict[str, object]:
    """A finished run of a schedule; what it changes is in `more`, as the columns name it."""
    figures = {"sparsity_weight": 0.0, "sparsity_activation": 0.0, "bits_weight": 32.0, "bits_activation": 32.0}
    steps = {"recovery_steps": 30.0, "first_event_step": 40.0, "total_steps": 100.0, "steps_per_epoch": 10.0}
    direction = {"metric": "accuracy", "metric_direction": "up", "metric_unit": "%"}
    made = {"task": task, "model": "net", "data": "set", "schedule": schedule, "order": "float", "signature": "float"}
    made |= {"seed": seed, "value": value, "status": "FINISHED", "footprint_total_mb": 1.0, "pd_total": value}
    made |= {"variant": "", "epochs": "10", "left_out": "", "footprint_kind": "ideal", "run_id": f"{schedule}{seed}"}
    return made | figures | steps | direction | more


def pair(
    values: Sequence[tuple[float, float]],
    *,
    folder: str = "",
    sparsity: float = 0.5,
    bits: int = 8,
    **more: object,
) -> list[dict[str, object]]:
    """Runs of pruning first and of quantizing first, by seed."""
    prune, quantize = PRUNED.format(sparsity=sparsity), QUANTIZED.format(bits=bits)
    changed = {"sparsity_weight": sparsity, "sparsity_activation": sparsity}
    changed |= {"bits_weight": float(bits), "bits_activation": float(bits), "signature": f"{prune}, {quantize}"}
    mark = f"[prune_weight.to={sparsity:g},quantize_weight.to={bits}]"
    sides = (("p_q_wf", f"{prune} → {quantize}"), ("q_p_wf", f"{quantize} → {prune}"))
    return [
        run(f"{folder}{name}{mark}", seed, both[side], order=order, **changed, **more)  # type: ignore[arg-type]
        for seed, both in enumerate(values)
        for side, (name, order) in enumerate(sides)
    ]


def grid(
    effects: Mapping[tuple[float, int], float], costs: Mapping[tuple[float, int], float]
) -> list[dict[str, object]]:
    """A sweep over sparsity × bits, three seeds: order effects by cell, and what each method alone costs of 90."""
    made = []
    for (sparsity, bits), effect in effects.items():
        made += pair([(80 + effect + each, 80) for each in (0.1, 0.0, -0.1)], sparsity=sparsity, bits=bits)
    for (sparsity, bits), cost in costs.items():
        made += pair([(90 - cost, 90 - cost)] * 3, sparsity=sparsity, bits=bits)
    return made


def table(runs: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """The runs with all columns of a report's table."""
    return pd.DataFrame(list(runs)).reindex(columns=list(RUN_COLUMNS))


def sections_of(runs: Sequence[Mapping[str, object]]) -> list[Section]:
    """Their sections."""
    return sections(Records(table(runs), lambda _one, _other: pd.DataFrame(), "store", "sweep"))


def write(path: Path, runs: Sequence[Mapping[str, object]]) -> None:
    """A summary.csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table(runs).to_csv(path, index=False)


def floats(values: Sequence[float], **more: object) -> list[dict[str, object]]:
    """Float runs by seed."""
    return [run("float", seed, value, **more) for seed, value in enumerate(values)]  # type: ignore[arg-type]
