"""Groups of runs that may be compared with each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, order_effects
from qp_runner.report.pareto import front
from qp_runner.report.read import COVERAGE, Records
from qp_runner.report.rows import Row, make_row
from qp_runner.report.words import spelled
from qp_runner.shares import in_sites

SETTING = ["task", "model", "data", "variant", "epochs"]
DIGITS = 10  # significant ones: means of equal figures must be equal


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

    @cached_property
    def coverage(self) -> str:
        """`100 % of the matrix parameters, 97 % of …`: the least of all runs; empty if none recorded it."""
        shares = [float(self.runs[name].min()) for name in COVERAGE]
        return "" if any(map(math.isnan, shares)) else in_sites(*shares)

    @property
    def left_out(self) -> list[str]:
        """What the runs said of the parts of the network that are in no site, each text once."""
        return [text for text in self.runs["left_out"].unique() if text]

    @cached_property
    def finished(self) -> tuple[Row, ...]:
        """Schedules with at least one figure."""
        return tuple(row for row in self.rows if row.metric.n)

    @cached_property
    def exported(self) -> tuple[Row, ...]:
        """The finished schedules with exported files."""
        return tuple(row for row in self.finished if math.isfinite(row.file_mb))

    @cached_property
    def plain(self) -> Row | None:
        """The uncompressed network."""
        return next((row for row in self.finished if row.is_float), None)

    @cached_property
    def best(self) -> Row | None:
        """The compressed schedule with the best mean metric."""
        compressed = [row for row in self.finished if not row.is_float]
        return max(compressed, key=lambda row: self.metric.sign * row.metric.mean, default=None)

    @cached_property
    def densest(self) -> Row | None:
        """The schedule with the highest mean performance density."""
        known = [row for row in self.finished if math.isfinite(row.density.mean)]
        return max(known, key=lambda row: row.density.mean, default=None)

    def most_telling(self, count: int) -> tuple[Row, ...]:
        """Float, then those on the Pareto front, then the best: `count` in all, in the order of the rows."""
        ranked = sorted(
            self.finished,
            key=lambda row: (not row.is_float, not row.on_front, -self.metric.sign * row.metric.mean),
        )
        chosen = {id(row) for row in ranked[:count]}
        return tuple(row for row in self.finished if id(row) in chosen)

    @property
    def unfinished(self) -> list[tuple[str, str, str]]:
        """Name, status and error of the runs that did not finish."""
        rest = self.runs[self.runs["status"] != "FINISHED"]
        silent = {"RUNNING": "still running, or ended without a record"}
        return [
            (name, status, error or silent.get(status, "no error recorded"))
            for name, status, error in zip(rest["name"], rest["status"], rest["error"], strict=True)
        ]

    @property
    def failed_exports(self) -> list[tuple[str, str]]:
        """Name of the finished runs with exported files that are not as they should be, and what is wrong."""
        finished = self.runs[self.runs["status"] == "FINISHED"]
        return [(name, error) for name, error in zip(finished["name"], finished["error"], strict=True) if error]


def sections(records: Records) -> list[Section]:
    """One section for each task, model, data set and way of training, in the order of their first runs."""
    groups = records.runs.groupby(SETTING, sort=False, dropna=False)
    return [_section(dict(zip(SETTING, map(str, key), strict=True)), runs) for key, runs in groups]


def of_several_tasks(found: Sequence[Section]) -> list[Section]:
    """The sections with figures, if these are from several tasks; else none."""
    finished = [section for section in found if section.finished]
    return finished if len({section.task for section in finished}) > 1 else []


def _section(setting: dict[str, str], runs: pd.DataFrame) -> Section:
    name, direction, unit = runs[["metric", "metric_direction", "metric_unit"]].iloc[0]
    metric = Metric(spelled(name) or "metric", direction != "down", unit)
    finished = runs[runs["status"] == "FINISHED"]
    counted = finished.drop_duplicates(["schedule", "order", "seed"], keep="last")
    rows = [
        make_row(str(schedule), str(order), group, counted.loc[counted.index.intersection(group.index)])
        for (schedule, order), group in runs.groupby(["schedule", "order"], sort=False)
    ]
    rows = sorted(_marked(rows, metric), key=lambda row: not row.is_float)  # stable: keeps the order of appearance
    effects = tuple(order_effects(rows, metric))
    repeated = len(finished) - len(counted)
    return Section(**setting, metric=metric, rows=tuple(rows), effects=effects, runs=runs, repeated=repeated)


def _marked(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """The rows with `on_front` set."""
    points = [(row.footprint.mean, metric.sign * row.metric.mean) for row in rows]
    marks = front([(float(f"{cost:.{DIGITS}g}"), float(f"{utility:.{DIGITS}g}")) for cost, utility in points])
    return [replace(row, on_front=mark) for row, mark in zip(rows, marks, strict=True)]
