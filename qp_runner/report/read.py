"""From the MLflow store to tables: one row per run, one row per recorded value."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from qp_runner.errors import ConfigError
from qp_runner.report.pictures import Pictures
from qp_runner.report.source import Source
from qp_runner.report.sweeps import PARENT, choose

if TYPE_CHECKING:
    from mlflow.entities import Run

TAGS = ("task", "model", "data", "schedule", "order", "signature", "variant", "seed", "sweep")
FINAL = (
    *(f"{what}_{target}" for what in ("sparsity", "bits") for target in ("weight", "activation")),
    *(f"footprint_{part}_mb" for part in ("total", "weight", "activation", "peak", "ideal_total", "stored_total")),
    *(f"pd_{part}" for part in ("total", "weight", "activation")),
    *("recovery_steps", "first_event_step", "total_steps", "steps_per_epoch"),
)
COMPRESSION = ("sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation")
RUN_COLUMNS = (
    *("task", "model", "data", "schedule", "seed", "metric", "value"),
    *("sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation"),
    *("footprint_total_mb", "pd_total", "status", "order", "signature", "variant", "value_val"),
    *("metric_direction", "metric_unit", "recovery_steps", "first_event_step", "total_steps", "steps_per_epoch"),
    *("epochs", "footprint_kind", "footprint_weight_mb", "footprint_activation_mb", "footprint_peak_mb"),
    *("footprint_ideal_total_mb", "footprint_stored_total_mb", "pd_weight", "pd_activation"),
    *("sweep", "name", "run_id", "parent_run_id", "error", "started", "ended"),
    *("command", "git_commit", "cpus", "versions"),
)
HISTORY_COLUMNS = ("run_id", "name", "step", "value")
UNITS = {"accuracy": "%", "map": "%", "psnr": "dB"}  # for runs without the tags metric_direction and metric_unit
LOWER_IS_BETTER = {"fid", "kid", "lpips", "l1", "l2", "mse", "mae", "rmse", "loss", "error", "perplexity"}


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
    found = source.runs()
    jobs, title = choose(found, sweep=sweep, task=task, store=store)
    runs = run_table(jobs)
    if not (runs["status"] == "FINISHED").any():
        counts = "; ".join(f"{count} {str(status).lower()}" for status, count in runs["status"].value_counts().items())
        reason = next((f" (first error: {error})" for error in runs["error"] if error), "")
        raise ConfigError("--sweep", title, f"a sweep with finished runs; this one has {counts}{reason}")
    return Records(runs, _histories(source, runs), store, title, source.pictures)


def run_table(runs: Iterable["Run"]) -> pd.DataFrame:
    """One row per run, columns RUN_COLUMNS; missing figures are NaN."""
    table = pd.DataFrame([_row(run) for run in runs], columns=list(RUN_COLUMNS))
    for name in ("metric", "metric_direction", "metric_unit"):  # a run that failed early has no metric tag
        known = table[table["metric"] != ""].groupby("task")[name].first().to_dict()
        table[name] = table[name].where(table["metric"] != "", [str(known.get(task, "")) for task in table["task"]])
    return table


def _row(run: "Run") -> dict[str, object]:
    tags, final = run.data.tags, run.data.metrics
    metric = tags.get("metric") or _infer_metric(final)
    versions = {key.removeprefix("version."): tags[key] for key in sorted(tags) if key.startswith("version.")}
    return {
        **{name: tags.get(name, "") for name in TAGS},
        **{name: final.get(f"final/{name}", math.nan) for name in FINAL},
        "seed": _seed(tags.get("seed", "")),
        "metric": metric,
        "metric_direction": tags.get("metric_direction") or _infer_direction(metric),
        "metric_unit": tags.get("metric_unit", UNITS.get(metric.lower(), "")),
        "value": final.get(f"final/{metric}", math.nan) if run.info.status == "FINISHED" else math.nan,
        "value_val": final.get(f"final/val_{metric}", math.nan),
        "status": run.info.status,
        "epochs": run.data.params.get("trainer.epochs", ""),
        "footprint_kind": run.data.params.get("compress.footprint", ""),
        "name": run.info.run_name,
        "run_id": run.info.run_id,
        "parent_run_id": tags.get(PARENT, ""),
        "error": tags.get("error", ""),
        "started": pd.to_datetime(run.info.start_time, unit="ms", utc=True),
        "ended": pd.to_datetime(run.info.end_time, unit="ms", utc=True),
        "command": tags.get("command", ""),
        "git_commit": tags.get("git_commit", ""),
        "cpus": tags.get("cpus", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _infer_metric(final: Mapping[str, float]) -> str:
    """The metric of a run without the tag: measured on both splits, and not the loss."""
    both = [key.removeprefix("final/val_") for key in sorted(final) if key.startswith("final/val_")]
    both = [name for name in both if f"final/{name}" in final]
    return next((name for name in both if name != "loss"), "")


def _infer_direction(metric: str) -> str:
    return "down" if LOWER_IS_BETTER & set(metric.lower().split("_")) else "up"


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def _histories(source: Source, runs: pd.DataFrame) -> pd.DataFrame:
    rows: list[tuple[str, str, int, float]] = []
    for run in runs.itertuples():
        metric = str(run.metric)
        names = {f"val/{metric}": "metric"} if metric else {}
        names |= {f"compress/{name}": name for name in COMPRESSION}
        for stored, name in names.items():
            rows += _series(source, str(run.run_id), stored, name)
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


def _series(source: Source, run_id: str, stored: str, name: str) -> Sequence[tuple[str, str, int, float]]:
    """Values by rising step; of several values at a step the last one recorded."""
    values = sorted(source.history(run_id, stored), key=lambda each: (each.step, each.timestamp))
    last = {int(each.step): float(each.value) for each in values}
    return [(run_id, name, step, value) for step, value in last.items()]
