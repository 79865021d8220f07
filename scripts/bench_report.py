"""Time and memory that qp-report takes for a store of many runs, which is made up and kept in FOLDER.

The runs are one sweep: half of the schedules prune first, half quantize first, each has every seed.
"""

import argparse
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.folders import bring_folder
from qp_runner.tracking.records import run_folders
from qp_runner.tracking.store import prepare

TASK, SWEEP, EPOCHS, PER_EPOCH, PARAMS = "classification", "2026-01-01_00-00-00", 40, 12, 150
COMPRESS = ("sparsity_weight", "sparsity_activation", "bits_weight", "bits_activation")


def main() -> None:
    """Makes the store if it is missing, then reports on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the store; reused if it is there")
    parser.add_argument("--schedules", type=int, default=94, help="an even number (%(default)s)")
    parser.add_argument("--seeds", type=int, default=16, help="runs of each schedule (%(default)s)")
    args = parser.parse_args()
    if not (args.folder / "mlflow.db").exists():
        make(args.folder.resolve(), args.schedules, args.seeds)
    call = [sys.executable, "-c", "import sys; from qp_runner.report.cli import main; sys.exit(main())"]
    call += ["--store", str(args.folder / "mlflow.db"), "--out", str(args.folder / "report")]
    started = time.perf_counter()
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor time, {used.ru_maxrss / 1024:.0f} MB")


def make(folder: Path, schedules: int, seeds: int) -> None:
    """Writes the runs' files and brings them into a store."""
    draft = folder.with_name(f"{folder.name}.draft")
    sweep, dice = draft / "sweeps" / SWEEP, random.Random(0)
    info = RunInfo(f"many · {SWEEP}", TASK, {"sweep": SWEEP, "task": TASK, "jobs": str(schedules * seeds)})
    parent = RunFiles(sweep, info, store="default")
    for number in range(schedules * seeds):
        write(sweep / str(number), *divmod(number, seeds), schedules, dice)
    parent.finish("FINISHED")
    store = prepare(f"sqlite:///{draft / 'mlflow.db'}", TASK)
    for run in run_folders(sweep):
        bring_folder(store, run, results=draft, store_key="default")
    draft.rename(folder)


def write(folder: Path, schedule: int, seed: int, schedules: int, dice: random.Random) -> None:
    """A finished run as the runner records it; its sparsity tells it from those of the other `schedules`."""
    first, kind = schedule % 2, schedule // 2
    sparsity, bits = 0.3 + 0.6 * kind / schedules, float(4 + kind % 5)
    parts = [f"P{sparsity:.4g}(w,f)", f"Q{bits:g}(w,f)"]
    tags = {"task": TASK, "model": "small_cnn", "data": "digits", "variant": "", "sweep": SWEEP, "seed": str(seed)}
    tags |= {"schedule": f"s{schedule}", "signature": ", ".join(parts), "job": folder.name, "left_out": ""}
    tags |= {"order": " → ".join(parts[::-1] if first else parts), "metric": "accuracy", "metric_unit": "%"}
    params = {f"section.key_{index}": str(index) for index in range(PARAMS)}
    params |= {"trainer.epochs": str(EPOCHS), "compress.footprint": "ideal"}
    run = RunFiles(folder, RunInfo(f"s{schedule} · seed {seed}", TASK, tags, params), store="default")
    for epoch in range(1, EPOCHS + 1):
        states = [sparsity if epoch > (30 if first else 10) else 0.0] * 2
        states += [bits if epoch > (10 if first else 30) else 32.0] * 2
        values = {f"compress/{name}": value for name, value in zip(COMPRESS, states, strict=True)}
        values |= {"val/accuracy": 90 + epoch / 10 - first + dice.gauss(0, 1), "train/loss": 1 / epoch}
        run.metrics(values, step=epoch * PER_EPOCH)
    accuracy = 94 - first - 10 * kind / schedules + dice.gauss(0, 1)
    final = {"accuracy": accuracy, "footprint_total_mb": bits * (1 - sparsity) / 8}
    final |= {"pd_total": 94 / final["footprint_total_mb"], "val_accuracy": 94.0, "steps_per_epoch": float(PER_EPOCH)}
    final |= dict(zip(COMPRESS, (sparsity, sparsity, bits, bits), strict=True))
    final |= {"total_steps": float(EPOCHS * PER_EPOCH), "recovery_steps": 120.0, "first_event_step": 120.0}
    run.metrics({f"final/{name}": value for name, value in final.items()}, step=EPOCHS * PER_EPOCH)
    run.metrics({"compress/coverage_weight": 1.0, "compress/coverage_activation": 0.9}, step=EPOCHS * PER_EPOCH)
    run.finish("FINISHED")


if __name__ == "__main__":
    main()
