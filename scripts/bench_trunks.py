"""A sweep with trunks against the same sweep without, in one run: wall clock, and whether all results are equal.

Each sweep is a process of its own, measured from its start to its end, imports and planning included. Rounds
alternate, so that drift of the machine meets both alike. Then every job's weights, masks, scales and recorded values
(times excepted) are compared bit for bit. Ends with 1 where they differ, or where the ratio is below --least.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

Values = list[tuple[str, str, str]]


def sweep(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Seconds that a sweep takes, on the wall and of processors; raises where it fails."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "qp_runner", *arguments, f"results={folder}", "trainer.progress=false"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the sweep failed:\n{done.stderr}")
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - started, used


def jobs(folder: Path) -> dict[str, Path]:
    [found] = (folder / "sweeps").iterdir()
    return {each.name: each for each in found.iterdir() if (each / "run.json").is_file()}


def records(job: Path) -> Values:
    """Everything recorded, in its order: step, name, value."""
    with (job / "metrics.csv").open(encoding="utf-8") as file:
        return [(row["step"], row["name"], row["value"]) for row in csv.DictReader(file)]


def values(job: Path) -> Values:
    """The same without times."""
    return [row for row in records(job) if not row[1].startswith("time/")]


def tensors(job: Path) -> dict[str, torch.Tensor]:
    """Weights, masks and scales by name."""
    return load_file(job / "model.safetensors")


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two results of the same job."""
    found = [] if values(one) == values(other) else ["recorded values"]
    mine, theirs = tensors(one), tensors(other)
    if mine.keys() != theirs.keys():
        return [*found, "names of tensors"]
    return found + [name for name in mine if not torch.equal(mine[name], theirs[name])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=["experiment=orders/digits"], help="the sweep's command line")
    parser.add_argument("--rounds", type=int, default=1, help="sweeps of each kind")
    parser.add_argument("--least", type=float, default=0.0, help="the ratio below which this fails")
    arguments = parser.parse_args()
    overrides = arguments.overrides
    wall: dict[str, list[float]] = {"with": [], "without": []}
    processor: dict[str, list[float]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as name:
        for number in range(arguments.rounds):
            for kind, off in (("without", ["checkpoint.enabled=false"]), ("with", [])):
                folder = Path(name) / f"{kind}{number}"
                for kept, measured in zip((wall, processor), sweep([*overrides, *off], folder), strict=True):
                    kept[kind].append(measured)
                print(f"{kind:8s} trunks {wall[kind][-1]:8.2f} s, processors {processor[kind][-1]:8.2f} s", flush=True)
        alone, shared = jobs(Path(name) / "without0"), jobs(Path(name) / "with0")
        wrong = {job: differences(alone[job], shared[job]) for job in sorted(alone.keys() & shared.keys(), key=int)}
        complete = alone.keys() == shared.keys()
    unequal = {job: found for job, found in wrong.items() if found}
    ratio, work = (statistics.median(each["without"]) / statistics.median(each["with"]) for each in (wall, processor))
    print(f"{ratio:.2f} x less wall clock, {work:.2f} x less processor time")
    print(f"{len(wrong) - len(unequal)} of {len(alone)} jobs equal bit for bit")
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, {arguments.rounds} rounds: {' '.join(overrides)}")
    for job, found in unequal.items():
        print(f"job {job} differs in {', '.join(found[:5])}")
    sys.exit(bool(unequal) or not complete or ratio < arguments.least)


if __name__ == "__main__":
    main()
