"""Repeats a sweep with parallel workers, each time into a fresh store, and looks for lost jobs and lost metrics.

Needs the joblib launcher: `pip install 'qp_runner[joblib]'`. Every value in a job's metrics.csv has to be in MLflow, at
its step; every job has to be FINISHED, in both. Ends with 1 at the first loss.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from qp_runner.tracking.bring import ID_TAG
from qp_runner.tracking.client import client
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import Record


def losses(results: Path, uri: str = "") -> tuple[int, list[str]]:
    """The number of jobs of all sweeps below `results`, and what is missing in their files or in MLflow."""
    store = client(uri or f"sqlite:///{results / 'mlflow.db'}")
    experiments = [each.experiment_id for each in store.search_experiments()]
    total, missing = 0, list[str]()
    begun = (each for each in (results / "sweeps").iterdir() if (each / "sweep.json").is_file())
    for sweep in sorted(begun):  # a command that was killed before it planned leaves an empty folder
        below = f"tags.mlflow.parentRunId = '{Marker.load(sweep).run_id}'"
        below_it = list(store.search_runs(experiments, below, max_results=5000))
        jobs = int(known(sweep).tags["jobs"])
        total += jobs
        missing += sweep_losses(sweep, jobs, {run.data.tags[ID_TAG]: run for run in below_it}, store)
        if len(below_it) != jobs:
            missing.append(f"{len(below_it)} runs in MLflow, {jobs} jobs")
    return total, missing


def sweep_losses(sweep: Path, jobs: int, stored: dict[str, Any], store: Any) -> list[str]:
    """What one sweep lacks; `stored` are its runs in MLflow by their identifier."""
    missing = []
    for number in range(jobs):
        record = known(sweep / str(number))
        run = stored.get(record.id)
        if record.status != "FINISHED" or run is None or run.info.status != "FINISHED":
            missing.append(f"job {number} ({record.name})")
        else:
            missing += [f"job {number}: {name}" for name in differing(sweep / str(number), store, run)]
    return missing


def known(folder: Path) -> Record:
    """The record in a folder that must have one."""
    record = Record.load(folder)
    if record is None:
        raise SystemExit(f"{folder} holds no run.json")
    return record


def differing(job: Path, store: Any, run: Any) -> list[str]:
    """Names of metrics whose values in MLflow are not those in the job's file."""
    with (job / "metrics.csv").open(encoding="utf-8") as file:
        rows = [(row["name"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file)]
    wrong = []
    for name in sorted({name for name, _, _ in rows}):
        written = Counter((step, value) for other, step, value in rows if other == name)
        found = Counter((each.step, each.value) for each in store.get_metric_history(run.info.run_id, name))
        if written != found:
            wrong.append(name)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=["experiment=orders/digits"], help="the sweep's command line")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={arguments.workers}", "trainer.progress=false"]
    for time in range(1, arguments.times + 1):
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-m", "qp_runner", *arguments.overrides, *launcher, f"results={name}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"time {time}: the sweep failed\n{done.stderr}")
            jobs, missing = losses(Path(name))
        print(f"time {time}: {jobs} jobs, {len(missing)} losses {'; '.join(missing[:5])}", flush=True)
        if missing:
            sys.exit(1)


if __name__ == "__main__":
    main()
