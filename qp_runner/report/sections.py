"""Groups of runs that may be compared with each other."""

from dataclasses import dataclass

import pandas as pd

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, order_effects
from qp_runner.report.read import Records
from qp_runner.report.rows import Row, make_row, mark_front
from qp_runner.report.words import spelled

SETTING = ["task", "model", "data", "variant", "epochs"]


@dataclass(frozen=True)
class Section:
    """Runs of one task, model, data set and way of training, which may share a table.

    Attributes:
        task, model, data, variant, epochs: what these runs share.
        metric: measured on the test split at the last epoch.
        rows: the schedules; float first, then in order of appearance.
        effects: of all pairs of schedules that differ in order only.
        runs: all its runs, including unfinished ones.
        repeated: number of finished runs left out because a later one has the same schedule and seed.
    """

    task: str
    model: str
    data: str
    variant: str
    epochs: str
    metric: Metric
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]
    runs: pd.DataFrame
    repeated: int

    @property
    def setting(self) -> str:
        """`small_cnn on digits, 40 epochs`."""
        parts = [f"{self.model} on {self.data}", f"{self.epochs} epochs" if self.epochs else "", self.variant]
        return ", ".join(part for part in parts if part)

    @property
    def finished(self) -> tuple[Row, ...]:
        """Schedules with at least one figure."""
        return tuple(row for row in self.rows if row.metric.n)


def sections(records: Records) -> list[Section]:
    """One section for each task, model, data set and way of training, in the order of their first runs."""
    groups = records.runs.groupby(SETTING, sort=False, dropna=False)
    return [_section(dict(zip(SETTING, map(str, key), strict=True)), runs) for key, runs in groups]


def _section(setting: dict[str, str], runs: pd.DataFrame) -> Section:
    known = runs[runs["metric"] != ""]
    first = (known if len(known) else runs).iloc[0]
    metric = Metric(
        spelled(str(first["metric"])) or "metric", first["metric_direction"] != "down", str(first["metric_unit"])
    )
    finished = runs[runs["status"] == "FINISHED"]
    counted = finished.drop_duplicates(["schedule", "order", "seed"], keep="last")
    rows = [
        make_row(str(schedule), str(order), group, counted.loc[counted.index.intersection(group.index)])
        for (schedule, order), group in runs.groupby(["schedule", "order"], sort=False)
    ]
    rows = sorted(mark_front(rows, metric), key=lambda row: not row.is_float)  # stable: keeps the order of appearance
    effects = tuple(order_effects(rows, metric))
    return Section(
        metric=metric,
        rows=tuple(rows),
        effects=effects,
        runs=runs,
        repeated=len(finished) - len(counted),
        **setting,
    )
