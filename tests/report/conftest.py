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
METRICS = {
    "accuracy": ("classification", "up", "%"),
    "fid": ("translation", "down", ""),
    "psnr": ("resolution", "up", "dB"),
}
ORDERS = {  # schedule -> order, signature, test values by seed, footprint, prune step, quantize step
    "float": ("float", "float", (99.0, 99.2, 98.8), 1.2, None, None),
    "q_wf": ("Q8(w,f)", "Q8(w,f)", (98.8, 99.0, 98.7), 0.3, None, 90),
    "p_q_w": ("P0.5(w) → Q8(w,f)", "P0.5(w), Q8(w,f)", (98.0, 98.2, 97.9), 0.2, 40, 90),
    "q_p_w": ("Q8(w,f) → P0.5(w)", "P0.5(w), Q8(w,f)", (96.0, 96.3, 95.8), 0.2, 95, 60),
}
FIRST = [(name, seed, "FINISHED") for name in ORDERS for seed in range(3)]
SWEEPS: dict[str, tuple[str, Sequence[tuple[str, int, str]]]] = {
    "first": ("accuracy", [*FIRST, ("p_q_w", 7, "FAILED"), ("q_p_w", 7, "KILLED")]),
    "broken": ("accuracy", [("p_q_w", 0, "FAILED")]),
    "other": ("psnr", [("p_q_w", 0, "KILLED")]),
    "last": ("fid", [("q_wf", 9, "FAILED"), *((name, 0, "FINISHED") for name in ORDERS)]),
}


def job(folder: Path, sweep: str, schedule: str, seed: int, *, metric: str, end: str) -> None:
    """One run as the command line records it; one that failed was never built, so that its metric is not known."""
    order, signature, values, megabits, prune, quantize = ORDERS[schedule]
    task, direction, unit = METRICS[metric]
    tags = {"task": task, "model": "net", "data": "set", "schedule": schedule, "order": order, "signature": signature}
    tags |= {"left_out": "only 90 % of the activations in memory are in sites; left out: stem, 10 % (no glob)"}
    tags |= {"variant": "", "seed": str(seed), "sweep": sweep}
    if end != "FAILED":
        tags |= {"metric": metric, "metric_direction": direction, "metric_unit": unit}
    info = RunInfo(f"{schedule} · seed {seed}", task, tags, {"trainer.epochs": "10", "compress.footprint": "ideal"})
    run = RunFiles(folder, info, store="default")
    if end == "FAILED":
        return run.finish("FAILED", "ValueError: <the loss> is NaN\nmore")
    value = values[seed % 3] if metric == "accuracy" else 10 * (100 - values[seed % 3])
    for step in range(PER_EPOCH, STEPS + 1, PER_EPOCH):
        state = {f"compress/{name}": figure for name, figure in compression(step, prune, quantize).items()}
        run.metrics({f"val/{metric}": value - 50 / step, "val/loss": 1.0, **state}, step=step)
    if end == "KILLED":
        return run.finish("KILLED", "KeyboardInterrupt: stopped")
    events = [step for step in (prune, quantize) if step is not None]
    final = {
        metric: value,
        f"val_{metric}": value - 0.5,
        "loss": 0.1,
        "val_loss": 0.2,
        "footprint_total_mb": megabits,
        "pd_total": (value if metric == "accuracy" else 1 / value) / megabits,
        **compression(STEPS, prune, quantize),
        "recovery_steps": STEPS - max(events, default=0),
        "first_event_step": min(events, default=STEPS),
        "total_steps": STEPS,
        "steps_per_epoch": PER_EPOCH,
    }
    run.metrics({f"final/{name}": float(figure) for name, figure in final.items()}, step=STEPS)
    run.metrics({"compress/coverage_weight": 1.0, "compress/coverage_activation": 0.9}, step=STEPS)
    if metric == "fid":
        keep_pictures(run, seed)
        exported = {"final/file_mb": megabits / 2, "final/file_verified": float(schedule != "q_wf")}
        run.metrics(exported, step=STEPS)
    return run.finish("FINISHED")


def compression(step: int, prune: int | None, quantize: int | None) -> dict[str, float]:
    bits = 8.0 if quantize is not None and step >= quantize else 32.0
    sparsity = 0.5 if prune is not None and step >= prune else 0.0
    return {"sparsity_weight": sparsity, "sparsity_activation": 0.0, "bits_weight": bits, "bits_activation": bits}


def keep_pictures(run: RunFiles, seed: int) -> None:
    """Two pictures as the command line keeps them; all red, as red as the seed says."""
    for name, width in (("front_door__input__output__target", 40), ("wide", 2000)):
        Image.new("RGB", (width, 10), (200 + seed, 0, 0)).save(run.file(f"pictures/{name}.png"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the runs of SWEEPS."""
    path = tmp_path_factory.mktemp("report") / "mlflow.db"
    for number, (sweep, (metric, jobs)) in enumerate(SWEEPS.items()):
        task, folder = METRICS[metric][0], path.parent / "sweeps" / str(number)
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
        total: float = 100,
        run_ids: tuple[str, ...] = (),
    ) -> Row:
        figures = {"recovery_steps": recovery, "first_event_step": 40.0, "total_steps": total}
        metric, same = summarise(list(values.values())), summarise([1.0] * len(values))
        return Row(schedule or order, order, signature, dict(values), metric, same, same, 0, figures, run_ids)

    return make
