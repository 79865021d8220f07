"""What tests of MLflow stores share: what a store has of a run, against what the run's files have."""

import csv
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qp_runner
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.records import ID_TAG, Record, artifact_files
from qp_runner.tracking.store import Store

INFO = RunInfo(
    "p_q_wf · seed 0",
    "classification",
    {"order": "P0.5(w) → Q8(w,f)", "model": "small_cnn", "data": "digits", "seed": "0", "variant": ""},
    {"trainer.epochs": "30", "schedule.events": "{}", **{f"model.{index}": str(index) for index in range(150)}},
)
SWEEP = RunInfo("orders · 2026-01-01", "classification", {"sweep": "2026-01-01", "jobs": "3"})


def write(folder: Path, *, store: str | None, steps: int = 20, end: Any = "FINISHED", info: RunInfo = INFO) -> RunFiles:
    """Writes a run's files, open if `end` is None."""
    run = RunFiles(folder, info, store=store)
    run.text("config.yaml", "seed: 0\n")
    for step in range(steps):
        run.metrics({"train/loss": 1 / (step + 1), "val/accuracy": float(step)}, step=step)
    if end is not None:
        run.finish(end, None if end == "FINISHED" else "ValueError: no\nmore")
    return run


def load(folder: Path) -> Record:
    """The record of a folder that has one."""
    record = Record.load(folder)
    assert record is not None
    return record


def open_store(results: Path) -> Store:
    """The store in a results folder, which is there."""
    return Store(f"sqlite:///{results / 'mlflow.db'}")


def written(folder: Path) -> Counter[tuple[str, int, float]]:
    """The numbers in a run's file: name, step, value."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return Counter((row["name"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file))


def runs(client: Any, attempt: str = "") -> list[Any]:
    """The runs of a store that are not deleted; those of one attempt if it is given."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    where = f"tags.`{ID_TAG}` = '{attempt}'" if attempt else ""
    return list(client.search_runs(experiments, where, max_results=5000))


def stored(client: Any, run: Any) -> Counter[tuple[str, int, float]]:
    """The numbers that a store has of a run: name, step, value."""
    found = Counter[tuple[str, int, float]]()
    for name in run.data.metrics:
        found.update((name, each.step, each.value) for each in client.get_metric_history(run.info.run_id, name))
    return found


def lacking(client: Any, *folders: Path) -> list[str]:
    """What a store does not have, or has twice, of the runs that are over in these folders."""
    wrong = []
    for folder in folders:
        record = load(folder)
        found = runs(client, record.id)
        if len(found) != 1:
            wrong.append(f"{folder.name}: {len(found)} runs")
            continue
        [run] = found
        expected = (record.status, record.name, record.params, written(folder))
        if (run.info.status, run.info.run_name, run.data.params, stored(client, run)) != expected:
            wrong.append(f"{folder.name}: {run.info.status}, {len(stored(client, run))} numbers")
        artifacts = {name.partition("/")[0] for _, name in artifact_files(folder, record)}
        if missing := artifacts - {each.path for each in client.list_artifacts(run.info.run_id)}:
            wrong.append(f"{folder.name}: no {missing}")
    return wrong


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process of this package's Python."""
    environment = {**os.environ, "PYTHONPATH": str(Path(qp_runner.__file__).parents[1])}
    call = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def fork(call: Callable[[], object]) -> int:
    """Starts a process that calls the function and ends with 0; its files may be of no store opened in this one."""
    pid = os.fork()
    if not pid:
        try:
            call()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> int:
    """The exit code of a process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
