"""From the MLflow store to tables: one row per run, one row per recorded value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from qp_runner.errors import ConfigError
from qp_runner.report.pictures import Pictures
from qp_runner.report.source import Source
from qp_runner.report.sweeps import choose

if TYPE_CHECKING:
    from mlflow.entities import Run

METRIC = ["metric", "metric_direction", "metric_unit"]
TAGS = (
    *("task", "model", "data", "schedule", "order", "signature", "variant", "seed", "sweep", "job", *METRIC),
    *("left_out", "error", "command", "git_commit", "cpus"),
)
COMPRESSION = ("sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation")
FINAL = (
    *COMPRESSION,
    *(f"footprint_{part}_mb" for part in ("total", "weight", "activation", "peak", "ideal_total", "stored_total")),
    *(f"pd_{part}" for part in ("total", "weight", "activation")),
    *("recovery_steps", "first_event_step", "total_steps", "steps_per_epoch"),
)
COVERAGE = ("coverage_weight", "coverage_activation")
RUN_COLUMNS = (
    *("task", "model", "data", "schedule", "seed", "metric", "value"),
    *COMPRESSION,
    *("footprint_total_mb", "pd_total", "status", "order", "signature", "variant", "value_val"),
    *("metric_direction", "metric_unit", "recovery_steps", "first_event_step", "total_steps", "steps_per_epoch"),
    *("epochs", "footprint_kind", "footprint_weight_mb", "footprint_activation_mb", "footprint_peak_mb"),
    *("footprint_ideal_total_mb", "footprint_stored_total_mb", "pd_weight", "pd_activation"),
    *(*COVERAGE, "left_out"),
    *("sweep", "name", "run_id", "parent_run_id", "error", "started", "ended"),
    *("command", "git_commit", "cpus", "versions"),
)
HISTORY_COLUMNS = ("run_id", "name", "step", "value")


@dataclass(frozen=True)
class Records:
    """The input of a report.

    Attributes:
        runs: one row per run, finished or not, by start; columns RUN_COLUMNS.
        histories: one row per value of the validation metric (name `metric`) and of compression (names COMPRESSION);
            columns HISTORY_COLUMNS, `step` in training steps.
        store: where they were read.
        sweep: the title of these runs.
        pictures: from a run's identifier to the PNG files of its pictures, by name; read on demand.
    """

    runs: pd.DataFrame
    histories: pd.DataFrame
    store: str
    sweep: str
    pictures: Pictures = lambda _run_id: {}


def read(store: str, *, sweep: str = "latest", task: str | None = None) -> Records:
    """Reads the runs of a sweep (`latest`, `all`, a sweep's id or name), of one task if given.

    Raises ConfigError naming `--store`, `--sweep` or `--task` if there is nothing to report.
    """
    source = Source(store)
    runs, title = choose(run_table(source.runs()), sweep=sweep, task=task, store=store)
    if not (runs["status"] == "FINISHED").any():
        counts = "; ".join(f"{count} {str(status).lower()}" for status, count in runs["status"].value_counts().items())
        reason = next((f" (first error: {error})" for error in runs["error"] if error), "")
        raise ConfigError("--sweep", title, f"a sweep with finished runs; this one has {counts}{reason}")
    return Records(runs, _histories(source, runs), store, title, source.pictures)


def run_table(runs: Iterable["Run"]) -> pd.DataFrame:
    """One row per run, columns RUN_COLUMNS; missing figures are NaN.

    Sweeps stand by their start; in each the jobs by number, or by start if they have none.
    """
    table = pd.DataFrame([_row(run) for run in runs], columns=[*RUN_COLUMNS, "job"])
    for name in ("job", "seed"):
        table[name] = pd.to_numeric(table[name], errors="coerce").fillna(-1).astype(int)
    for task, own in table[table["metric"] != ""].groupby("task"):  # a run that failed early does not name its metric
        table.loc[(table["task"] == task) & (table["metric"] == ""), METRIC] = own[METRIC].iloc[0].tolist()
    sweep = table["parent_run_id"].where(table["parent_run_id"] != "", table["run_id"])
    table["began"] = table.groupby(sweep)["started"].transform("min")
    table = table.sort_values(["began", "job", "started", "seed", "run_id"], ignore_index=True)
    return table[list(RUN_COLUMNS)]


def _row(run: "Run") -> dict[str, object]:
    info, tags, params, final = run.info, run.data.tags, run.data.params, run.data.metrics
    metric = tags.get("metric", "")
    versions = {key.removeprefix("version."): tags[key] for key in sorted(tags) if key.startswith("version.")}
    return {
        **{name: tags.get(name, "") for name in TAGS},
        **{name: final.get(f"final/{name}", math.nan) for name in FINAL},
        **{name: final.get(f"compress/{name}", math.nan) for name in COVERAGE},
        "value": final.get(f"final/{metric}", math.nan) if info.status == "FINISHED" else math.nan,
        "value_val": final.get(f"final/val_{metric}", math.nan),
        "status": info.status,
        "epochs": params.get("trainer.epochs", ""),
        "footprint_kind": params.get("compress.footprint", ""),
        "name": info.run_name,
        "run_id": info.run_id,
        "parent_run_id": tags.get("mlflow.parentRunId", ""),
        "started": pd.to_datetime(info.start_time, unit="ms", utc=True),
        "ended": pd.to_datetime(info.end_time, unit="ms", utc=True),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _histories(source: Source, runs: pd.DataFrame) -> pd.DataFrame:
    """Values by rising step; of several values at a step the last one recorded."""
    rows = [
        (run_id, name, each.step, each.value, each.timestamp)
        for run_id, metric in zip(runs["run_id"], runs["metric"], strict=True)
        for name in ("metric", *COMPRESSION)
        for each in source.history(run_id, f"val/{metric}" if name == "metric" else f"compress/{name}")
    ]
    table = pd.DataFrame(rows, columns=[*HISTORY_COLUMNS, "timestamp"]).sort_values(["step", "timestamp"])
    return table.drop_duplicates(["run_id", "name", "step"], keep="last")[list(HISTORY_COLUMNS)]
