from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from qp_runner.report.rows import Row
from qp_runner.report.stats import summarise
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.folders import bring_folder
from qp_runner.tracking.records import run_folders
from qp_runner.tracking.store import prepare

STEPS, PER_EPOCH = 100, 10
TASKS = {"accuracy": "classification", "fid": "translation", "psnr": "resolution"}
ORDERS = {  # schedule -> order, signature, test values by seed, footprint, prune step, quantize step
    "float": ("float", "float", (99.0, 99.2, 98.8), 1.2, None, None),
    "q_wf": ("Q8(w,f)", "Q8(w,f)", (98.8, 99.0, 98.7), 0.3, None, 90),
    "p_q_w": ("P0.5(w) → Q8(w,f)", "P0.5(w), Q8(w,f)", (98.0, 98.2, 97.9), 0.2, 40, 90),
    "q_p_w": ("Q8(w,f) → P0.5(w)", "P0.5(w), Q8(w,f)", (96.0, 96.3, 95.8), 0.2, 95, 60),
}


def job(folder: Path, sweep: str, schedule: str, seed: int, *, metric: str, end: str = "FINISHED") -> None:
    """One run as the command line records it; `fid` has its tags, `accuracy` leaves them to be inferred."""
    order, signature, values, megabits, prune, quantize = ORDERS[schedule]
    task = TASKS[metric]
    tags = {"task": task, "model": "net", "data": "set", "schedule": schedule, "order": order, "signature": signature}
    tags |= {"variant": "", "seed": str(seed), "sweep": sweep}
    if metric == "fid":
        tags |= {"metric": "fid", "metric_direction": "down", "metric_unit": ""}
    info = RunInfo(f"{schedule} · seed {seed}", task, tags, {"trainer.epochs": "10", "compress.footprint": "ideal"})
    run = RunFiles(folder, info, store="default")
    value = values[seed % 3] if metric == "accuracy" else 10 * (100 - values[seed % 3])
    for step in range(PER_EPOCH, STEPS + 1, PER_EPOCH):
        state = {
            "compress/sparsity_weight": 0.5 if prune is not None and step >= prune else 0.0,
            "compress/sparsity_activation": 0.0,
            "compress/bits_weight": 8.0 if quantize is not None and step >= quantize else 32.0,
            "compress/bits_activation": 8.0 if quantize is not None and step >= quantize else 32.0,
        }
        run.metrics({f"val/{metric}": value - 50 / step, "val/loss": 1.0, **state}, step=step)
    if end == "FINISHED":
        run.metrics(final(metric, value, megabits, prune, quantize), step=STEPS)
        if metric == "fid":
            keep_pictures(run, seed)
        run.finish("FINISHED")
    else:
        run.finish("KILLED" if end == "KILLED" else "FAILED", "ValueError: <the loss> is NaN\nmore")


def keep_pictures(run: RunFiles, seed: int) -> None:
    """Two pictures as the command line keeps them; all red, as red as the seed says."""
    for name, width in (("front_door__input__output__target", 40), ("wide", 2000)):
        Image.new("RGB", (width, 10), (200 + seed, 0, 0)).save(run.file(f"pictures/{name}.png"))


def final(metric: str, value: float, megabits: float, prune: int | None, quantize: int | None) -> dict[str, float]:
    events = [step for step in (prune, quantize) if step is not None]
    return {
        f"final/{metric}": value,
        f"final/val_{metric}": value - 0.5,
        "final/loss": 0.1,
        "final/val_loss": 0.2,
        "final/footprint_total_mb": megabits,
        "final/pd_total": (value if metric == "accuracy" else 1 / value) / megabits,
        "final/sparsity_weight": 0.5 if prune is not None else 0.0,
        "final/sparsity_activation": 0.0,
        "final/bits_weight": 8.0 if quantize is not None else 32.0,
        "final/bits_activation": 8.0 if quantize is not None else 32.0,
        "final/recovery_steps": float(STEPS - max(events, default=0)),
        "final/first_event_step": float(min(events, default=STEPS)),
        "final/total_steps": float(STEPS),
        "final/steps_per_epoch": float(PER_EPOCH),
    }


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sweeps: `first` (accuracy, 3 seeds, one failed and one killed run), `broken` and `other` (no
    finished run), `last` (FID, 1 seed)."""
    path = tmp_path_factory.mktemp("report") / "mlflow.db"
    sweeps: dict[str, tuple[str, Sequence[tuple[str, int, str]]]] = {
        "first": (
            "accuracy",
            [
                *((name, seed, "FINISHED") for name in ORDERS for seed in range(3)),
                ("p_q_w", 7, "FAILED"),
                ("q_p_w", 7, "KILLED"),
            ],
        ),
        "broken": ("accuracy", [("p_q_w", 0, "FAILED")]),
        "other": ("psnr", [("p_q_w", 0, "KILLED")]),
        "last": ("fid", [(name, 0, "FINISHED") for name in ORDERS]),
    }
    for number, (sweep, (metric, jobs)) in enumerate(sweeps.items()):
        task, folder = TASKS[metric], path.parent / "sweeps" / str(number)
        tags = {"sweep": sweep, "task": task, "jobs": str(len(jobs))}
        parent = RunFiles(folder, RunInfo(f"orders · {sweep}", task, tags), store="default")
        for launched, (schedule, seed, end) in enumerate(jobs):
            job(folder / f"{launched:02d}", sweep, schedule, seed, metric=metric, end=end)
        parent.finish("FINISHED")
    opened = prepare(f"sqlite:///{path}", "classification")
    for folder in run_folders(path.parent / "sweeps"):
        assert bring_folder(opened, folder, results=path.parent, store_key="default")
    return path


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes a schedule's row from its values by seed."""

    def make(
        order: str,
        values: Mapping[int, float],
        *,
        schedule: str = "",
        signature: str = "P0.5(w), Q8(w)",
        recovery: float = 30,
        first_event: float = 40,
        total: float = 100,
    ) -> Row:
        figures = {"recovery_steps": recovery, "first_event_step": first_event, "total_steps": total}
        metric = summarise(list(values.values()))
        empty = summarise([1.0] * len(values))
        return Row(schedule or order, order, signature, dict(values), metric, empty, empty, 0, figures, False, ())

    return make
