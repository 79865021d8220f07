"""From the MLflow store to tables: one row per run, one row per recorded value."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from qp_runner.errors import ConfigError
from qp_runner.masking import masked
from qp_runner.report.database import SQLITE, Database, is_file
from qp_runner.report.pictures import Pictures
from qp_runner.report.server import Server
from qp_runner.report.source import NAME, PARENT, Source, StoredRun
from qp_runner.report.sweeps import choose
from qp_runner.tracking.client import first_words
from qp_runner.tracking.probe import DATABASES, check_answers, scheme

log = logging.getLogger(__name__)

PARAMS = {"epochs": "trainer.epochs", "footprint_kind": "compress.footprint"}
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
    *("recovery_steps", "first_event_step", "total_steps", "steps_per_epoch", "file_mb", "file_verified"),
)
COVERAGE = ("coverage_weight", "coverage_activation")
RUN_COLUMNS = (
    *("task", "model", "data", "schedule", "seed", "metric", "value"),
    *COMPRESSION,
    *("footprint_total_mb", "pd_total", "status", "order", "signature", "variant", "value_val"),
    *("metric_direction", "metric_unit", "recovery_steps", "first_event_step", "total_steps", "steps_per_epoch"),
    *("epochs", "footprint_kind", "footprint_weight_mb", "footprint_activation_mb", "footprint_peak_mb"),
    *("footprint_ideal_total_mb", "footprint_stored_total_mb", "pd_weight", "pd_activation"),
    *("file_mb", "file_verified"),
    *(*COVERAGE, "left_out"),
    *("sweep", "name", "run_id", "parent_run_id", "error", "started", "ended"),
    *("command", "git_commit", "cpus", "versions"),
)
HISTORY_COLUMNS = ("run_id", "name", "step", "value")

Histories = Callable[[Sequence[str], Sequence[str]], pd.DataFrame]
"""From runs whose validation metric is wanted (name `metric`), and runs whose compression is (names COMPRESSION), to
one row per value: columns HISTORY_COLUMNS, `step` in training steps.
"""


@dataclass(frozen=True)
class Records:
    """The input of a report.

    Attributes:
        runs: one row per run, finished or not, by start; columns RUN_COLUMNS.
        histories: reads what runs recorded during training.
        store: where they were read, without user and password.
        sweep: the title of these runs.
        pictures: from a run's identifier to the PNG files of its pictures, by name; read on demand.
    """

    runs: pd.DataFrame
    histories: Histories
    store: str
    sweep: str
    pictures: Pictures = lambda _run_id: {}


def read(store: str, *, sweep: str = "latest", task: str | None = None) -> Records:
    """Reads the runs of a sweep (`latest`, `all`, a sweep's id or name), of one task if given.

    Raises ConfigError naming `--store`, `--sweep` or `--task` if there is nothing to report.
    """
    source, own = _open(store)
    runs, title = choose(run_table(own), sweep=sweep, task=task, store=masked(store))
    if not (runs["status"] == "FINISHED").any():
        counts = "; ".join(f"{count} {str(status).lower()}" for status, count in runs["status"].value_counts().items())
        reason = next((f" (first error: {error})" for error in runs["error"] if error), "")
        raise ConfigError("--sweep", title, f"a sweep with finished runs; this one has {counts}{reason}")
    return Records(runs, partial(_histories, source, runs), masked(store), title, source.pictures)


def _open(store: str) -> tuple[Source, Sequence[StoredRun]]:
    """A store and its runs; raises ConfigError (`--store`) if it can't be read, and makes nothing."""
    if is_file(store) and not Path(store.removeprefix(SQLITE)).is_file():
        raise ConfigError("--store", store, "no such file; a run writes it: `scripts/run`, or `qp-runner -m …`")
    try:
        if not is_file(store) and scheme(store) not in DATABASES:
            server = Server(store)
            return server, server.runs()
        check_answers(store)
        database = Database(store, params=list(PARAMS.values()))
        if database.is_of_older_mlflow():
            log.warning("%s is of an older MLflow: it is read as it is, and not changed", masked(store))
        return database, database.runs()
    except Exception as error:
        allowed = f"an MLflow store that can be read ({first_words(error)})"
        raise ConfigError("--store", masked(store), allowed) from error


def run_table(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row per run, columns RUN_COLUMNS; missing figures are NaN.

    Sweeps stand by their start; in each the jobs by number, or by start if they have none.
    """
    table = pd.DataFrame([_row(run) for run in runs], columns=[*RUN_COLUMNS, "job"])
    for name in ("started", "ended"):
        table[name] = pd.to_datetime(table[name], unit="ms", utc=True)
    for name in ("job", "seed"):
        table[name] = pd.to_numeric(table[name], errors="coerce").fillna(-1).astype(int)
    for task, own in table[table["metric"] != ""].groupby("task"):  # a run that failed early does not name its metric
        table.loc[(table["task"] == task) & (table["metric"] == ""), METRIC] = own[METRIC].iloc[0].tolist()
    sweep = table["parent_run_id"].where(table["parent_run_id"] != "", table["run_id"])
    table["began"] = table.groupby(sweep)["started"].transform("min")
    table = table.sort_values(["began", "job", "started", "seed", "run_id"], ignore_index=True)
    return table[list(RUN_COLUMNS)]


def _row(run: StoredRun) -> dict[str, object]:
    tags, final = run.tags, run.metrics
    metric = tags.get("metric", "")
    versions = {key.removeprefix("version."): tags[key] for key in sorted(tags) if key.startswith("version.")}
    return {
        **{name: tags.get(name, "") for name in TAGS},
        **{name: final.get(f"final/{name}", math.nan) for name in FINAL},
        **{name: final.get(f"compress/{name}", math.nan) for name in COVERAGE},
        "value": final.get(f"final/{metric}", math.nan) if run.status == "FINISHED" else math.nan,
        "value_val": final.get(f"final/val_{metric}", math.nan),
        **{name: run.params.get(param, "") for name, param in PARAMS.items()},
        "status": run.status,
        "name": tags.get(NAME, ""),
        "run_id": run.run_id,
        "parent_run_id": tags.get(PARENT, ""),
        "started": run.start,
        "ended": run.end,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _histories(source: Source, runs: pd.DataFrame, measured: Sequence[str], compressed: Sequence[str]) -> pd.DataFrame:
    """See `Histories`. By rising step; of several values at a step the last one recorded."""
    metrics = runs[runs["run_id"].isin(measured)].groupby("metric")["run_id"].agg(list).to_dict()
    wanted = {f"val/{metric}": own for metric, own in metrics.items()}
    wanted |= {f"compress/{name}": list(compressed) for name in COMPRESSION}
    rows = source.history(wanted)
    table = pd.DataFrame(rows, columns=[*HISTORY_COLUMNS, "timestamp"]).sort_values(["step", "timestamp"])
    names = {name: name.removeprefix("compress/") if name.startswith("compress/") else "metric" for name in wanted}
    table["name"] = table["name"].map(names)
    return table.drop_duplicates(["run_id", "name", "step"], keep="last")[list(HISTORY_COLUMNS)]
