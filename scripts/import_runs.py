"""Brings runs recorded in plain files into an MLflow store, as one sweep: for machines that have no MLflow.

Every folder below FOLDER that holds the run.json of a job or a single run becomes a run with its tags, parameters,
numbers and artifacts. To import the same runs under the same name again adds what was missing, and nothing twice.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qp_runner.tracking.bring import Parent, bring
from qp_runner.tracking.environment import with_environment
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import Record, now, run_folders
from qp_runner.tracking.store import prepare


def main() -> None:
    """Imports all runs of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="searched for run.json, at any depth")
    parser.add_argument("--store", type=Path, default=Path("results/mlflow.db"), help="SQLite file (%(default)s)")
    parser.add_argument("--sweep", required=True, help="the name under which the runs stand together")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE", help="a tag for every run")
    args = parser.parse_args()
    tags = dict(tag.split("=", 1) for tag in args.tag)
    found = [(folder, record) for folder in run_folders(args.folder) if (record := Record.load(folder))]
    runs = [(folder, record) for folder, record in found if "jobs" not in record.tags]  # a sweep's own has them
    if not runs:
        parser.error(f"{args.folder} holds no run.json")
    for task in dict.fromkeys(record.experiment for _, record in runs):
        own = [run for run in runs if run[1].experiment == task]
        import_task(f"sqlite:///{args.store.resolve()}", task, args.sweep, tags, own)
    print(f"{len(runs)} runs are in {args.store}: qp-report --store {args.store} --sweep '{args.sweep}'")


def import_task(uri: str, task: str, sweep: str, tags: dict[str, str], runs: Sequence[tuple[Path, Record]]) -> None:
    """The runs of a task, below one run that stands for the import."""
    store = prepare(uri, task)
    about = with_environment({"sweep": sweep, "task": task, "jobs": str(len(runs)), **tags})
    first = min(record.start_time for _, record in runs)
    above = Record(f"{sweep} · imported", task, "FINISHED", first, now(), id=digest(sweep, task), tags=about)
    with tempfile.TemporaryDirectory() as empty:
        parent = Parent(bring(store, Path(empty), above, Marker(), parent=None).run_id, task)
    for folder, record in sorted(runs, key=lambda each: each[1].start_time):
        own = replace(record, id=digest(sweep, record.id or str(record)), tags={**record.tags, "sweep": sweep, **tags})
        if not own.end:  # never ended: killed
            own = replace(own, status="KILLED", end_time=now())
        bring(store, folder, own, Marker(), parent=parent)


def digest(*parts: str) -> str:
    """An identifier that is the same whenever the same runs are imported under the same name."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


if __name__ == "__main__":
    main()
