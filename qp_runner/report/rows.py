"""The runs of one schedule, summarised over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from qp_runner.metric import Metric
from qp_runner.report.pareto import front
from qp_runner.report.stats import Summary, summarise

FLOAT = "float"
DIGITS = 10  # significant ones: means of equal figures must be equal


@dataclass(frozen=True)
class Row:
    """A schedule, summarised over its seeds.

    Attributes:
        schedule: the choice in the configuration, such as `p_q_wf`.
        order, signature: its readable name; its changes without their order.
        by_seed: seed -> the metric on the test split, of finished runs with a figure.
        metric, footprint, density: the metric; total footprint in Mb; total performance density.
        unfinished: number of runs that failed, were killed or still run.
        figures: means of every other final figure, by name (`sparsity_weight`, `recovery_steps`, ...).
        on_front: whether it is on the Pareto front of mean metric against mean footprint.
        run_ids: of the finished runs, in the order of `by_seed`.
    """

    schedule: str
    order: str
    signature: str
    by_seed: dict[int, float]
    metric: Summary
    footprint: Summary
    density: Summary
    unfinished: int
    figures: dict[str, float]
    on_front: bool
    run_ids: tuple[str, ...]

    @property
    def is_float(self) -> bool:
        """Whether nothing is compressed."""
        return self.signature == FLOAT


def make_row(schedule: str, order: str, runs: pd.DataFrame, counted: pd.DataFrame) -> Row:
    """The row of a schedule: `runs` are all its runs, `counted` the finished one of each seed."""
    with_figure = counted[np.isfinite(counted["value"].astype(float))].sort_values("seed")
    numbers = with_figure.select_dtypes("number").drop(columns=["seed"]).mean()
    return Row(
        schedule=schedule,
        order=order,
        signature=str(runs["signature"].iloc[0]),
        by_seed={
            int(seed): float(value) for seed, value in zip(with_figure["seed"], with_figure["value"], strict=True)
        },
        metric=summarise(list(with_figure["value"])),
        footprint=summarise(list(with_figure["footprint_total_mb"])),
        density=summarise(list(with_figure["pd_total"])),
        unfinished=int((runs["status"] != "FINISHED").sum()),
        figures={str(name): float(value) for name, value in numbers.items()},
        on_front=False,
        run_ids=tuple(with_figure["run_id"]),
    )


def mark_front(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """The rows with `on_front` set."""
    marks = front([(_round(row.footprint.mean), _round(metric.sign * row.metric.mean)) for row in rows])
    return [replace(row, on_front=mark) for row, mark in zip(rows, marks, strict=True)]


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
