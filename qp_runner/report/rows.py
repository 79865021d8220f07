"""The runs of one schedule, summarised over seeds."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qp_runner.report.stats import Summary, summarise
from qp_runner.schedule import FLOAT_BITS

FLOAT = "float"
TARGETS = ("weight", "activation")


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
        run_ids: of the finished runs, in the order of `by_seed`.
        on_front: whether it is on the Pareto front of mean metric against mean footprint.
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
    run_ids: tuple[str, ...]
    on_front: bool = False

    @property
    def is_float(self) -> bool:
        """Whether nothing is compressed."""
        return self.signature == FLOAT

    @property
    def is_single(self) -> bool:
        """Whether an event changed nothing (to sparsity 0, or to 32 bits), so that at most one method was at work."""
        pruned = [self.figure(f"sparsity_{target}") for target in TARGETS]
        bits = [self.figure(f"bits_{target}") for target in TARGETS]
        return all(share == 0 for share in pruned) or all(width == FLOAT_BITS for width in bits)

    @property
    def file_mb(self) -> float:
        """The mean size of the exported files in megabits; NaN if no run has one."""
        return self.figure("file_mb")

    @property
    def is_verified(self) -> bool:
        """Whether all runs' exported files compute what they should."""
        return self.figure("file_verified") == 1

    def figure(self, name: str) -> float:
        """The mean of a final figure; NaN if no run has it."""
        return self.figures.get(name, math.nan)


def make_row(schedule: str, order: str, runs: pd.DataFrame, counted: pd.DataFrame) -> Row:
    """The row of a schedule: `runs` are all its runs, `counted` the finished one of each seed."""
    with_figure = counted[np.isfinite(counted["value"])].sort_values("seed")
    return Row(
        schedule=schedule,
        order=order,
        signature=str(runs["signature"].iloc[0]),
        by_seed=dict(zip(with_figure["seed"], with_figure["value"], strict=True)),
        metric=summarise(with_figure["value"]),
        footprint=summarise(with_figure["footprint_total_mb"]),
        density=summarise(with_figure["pd_total"]),
        unfinished=int((runs["status"] != "FINISHED").sum()),
        figures=with_figure.select_dtypes("number").mean().to_dict(),
        run_ids=tuple(with_figure["run_id"]),
    )
