"""Brings runs recorded in plain files into an MLflow store, as one sweep: for machines that have no MLflow.

Every folder below FOLDER that holds a run.json becomes a run with its tags, parameters, numbers and artifacts.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from qp_runner.tracking import MlflowTracker, RunInfo, finish_parent, prepare, start_parent


def main() -> None:
    """Imports all runs of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="searched for run.json, at any depth")
    parser.add_argument("--store", type=Path, default=Path("results/mlflow.db"), help="SQLite file (%(default)s)")
    parser.add_argument("--sweep", required=True, help="the name under which the runs stand together")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE", help="a tag for every run")
    args = parser.parse_args()
    tags = dict(tag.split("=", 1) for tag in args.tag)
    records = [(path.parent, json.loads(path.read_text("utf-8"))) for path in sorted(args.folder.rglob("run.json"))]
    if not records:
        parser.error(f"{args.folder} holds no run.json")
    uri = f"sqlite:///{args.store.resolve()}"
    for task in dict.fromkeys(str(record["experiment"]) for _, record in records):
        own = [(folder, record) for folder, record in records if record["experiment"] == task]
        prepare(uri, task)
        about = {"sweep": args.sweep, "task": task, "jobs": str(len(own)), **tags}
        parent = start_parent(uri, task, f"{args.sweep} · imported", about)
        for folder, record in sorted(own, key=lambda each: str(each[1]["start_time"])):
            copy_run(uri, parent, folder, record, {"sweep": args.sweep, **tags})
        finish_parent(uri, parent, "FINISHED")
    print(f"{len(records)} runs are in {args.store}: qp-report --store {args.store} --sweep '{args.sweep}'")


def copy_run(uri: str, parent: str, folder: Path, record: dict[str, Any], tags: dict[str, str]) -> None:
    """One run, with its status; one that was never ended counts as killed."""
    info = RunInfo(record["name"], record["experiment"], {**record["tags"], **tags}, record["params"])
    run = MlflowTracker(uri, info, parent)
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_step[int(row["step"])][row["name"]] = float(row["value"])
    for step, values in sorted(by_step.items()):
        run.metrics(values, step=step)
    for path in sorted((folder / "artifacts").glob("*")):
        run.artifact(path)
    ended = record["status"] in ("FINISHED", "FAILED", "KILLED")
    run.finish(record["status"] if ended else "KILLED", record["error"])


if __name__ == "__main__":
    main()
