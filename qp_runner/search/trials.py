"""The trials of a search as plain data, the Pareto front among them, and its hypervolume."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from qp_runner.metric import Metric
from qp_runner.report.pareto import front

State = Literal["finished", "failed", "infeasible", "running"]


@dataclass(frozen=True)
class Trial:
    """A suggestion and what came of it.

    Attributes:
        changes: values by override key, as the command line takes them.
        order: the schedule's readable name; empty where none could be composed.
        job: the run's number, which names its folder; equal suggestions share a run. None: there is no run.
        digest: what makes another suggestion the same run.
        reason: why the trial is infeasible or has failed.
        figures: of the finished run: `metric` (validation data), `test`, `footprint` (Mb), `steps`, `computed`.
    """

    number: int
    state: State
    changes: Mapping[str, str]
    order: str = ""
    job: int | None = None
    digest: str = ""
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def figure(self, name: str) -> float:
        """A figure, NaN where there is none."""
        return self.figures.get(name, math.nan)


def firsts(trials: Sequence[Trial]) -> list[Trial]:
    """The first trial of each run, without those that repeat it."""
    seen: dict[int, Trial] = {}
    for trial in trials:
        if trial.job is not None:
            seen.setdefault(trial.job, trial)
    return list(seen.values())


def on_front(trials: Sequence[Trial], metric: Metric) -> list[bool]:
    """For each trial, whether it is on the front: no other is as good in both figures and better in one."""
    finished = [trial.state == "finished" for trial in trials]
    return front([_point(trial, metric) if ok else _NOWHERE for trial, ok in zip(trials, finished, strict=True)])


def best(trials: Sequence[Trial], metric: Metric) -> list[Trial]:
    """The front, one trial per run, by growing footprint."""
    runs = firsts(trials)
    kept = [trial for trial, ok in zip(runs, on_front(runs, metric), strict=True) if ok]
    return sorted(kept, key=lambda trial: trial.figure("footprint"))


def hypervolume(trials: Sequence[Trial], metric: Metric) -> float:
    """What share the front dominates of the box between the worst and the best figures; NaN where the box is empty."""
    points = [_point(trial, metric) for trial in trials if trial.state == "finished"]
    if not points:
        return math.nan
    costs, utilities = zip(*points, strict=True)
    width, height = max(costs) - min(costs), max(utilities) - min(utilities)
    if width == 0 or height == 0:
        return math.nan
    best = sorted({point for point, kept in zip(points, front(points), strict=True) if kept})
    edges = [*(cost for cost, _ in best[1:]), max(costs)]
    area = sum((edge - cost) * (utility - min(utilities)) for edge, (cost, utility) in zip(edges, best, strict=True))
    return area / (width * height)


def trial_table(trials: Sequence[Trial], metric: Metric) -> pd.DataFrame:
    """One row a trial, empty where there is no figure. Folders are relative to the search's."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "on_front": kept,
            "order": trial.order,
            f"val_{metric.name}": trial.figure("metric"),
            "footprint_total_mb": trial.figure("footprint"),
            f"test_{metric.name}": trial.figure("test"),
            **trial.changes,
            "job": trial.job,
            "steps": trial.figure("steps"),
            "steps_computed": trial.figure("computed"),
            "folder": "" if trial.job is None else str(trial.job),
            "reason": trial.reason,
        }
        for trial, kept in zip(trials, on_front(trials, metric), strict=True)
    ]
    table = pd.DataFrame(rows)
    whole = {name: "Int64" for name in ("job", "steps", "steps_computed") if name in table}
    return table.astype(whole)


_NOWHERE = (math.nan, math.nan)


def _point(trial: Trial, metric: Metric) -> tuple[float, float]:
    """Cost and utility, as `qp_runner.report.pareto` takes them."""
    return trial.figure("footprint"), metric.sign * trial.figure("metric")
