"""One run, from its configuration to its records."""

import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from qp_runner.cli.build import Parts, build, build_trainer, flatten
from qp_runner.cli.outcome import outcome
from qp_runner.report.timeline import schedule_figure
from qp_runner.schedule import Schedule, Stage
from qp_runner.schema import Config
from qp_runner.sweep import Sweep
from qp_runner.tracking import FileTracker, MlflowTracker, RunInfo, Tracker, Trackers
from qp_runner.training import Bar, Silent, seed_everything, set_numerics


@dataclass(frozen=True)
class Place:
    """Where a run belongs: its folder, the choices that name it, its sweep if it has one, its number in it."""

    folder: Path
    choices: Mapping[str, str]
    label: str
    variant: str = ""
    sweep: Sweep | None = None
    number: int = 0


def run(config: Config, place: Place, *, config_yaml: str) -> float:
    """Trains, evaluates and records one run; returns its metric on the test split.

    A failure is recorded (FAILED with its error; KILLED for Ctrl-C or SIGTERM) and raised again.
    """
    tracker: Tracker | None = None
    try:
        with _terminate_as_interrupt():
            set_numerics(deterministic=config.trainer.deterministic, threads=config.trainer.threads)
            seed_everything(config.seed)
            parts = build(config)
            tracker = _tracker(config, place, parts)
            tracker.text("config.yaml", config_yaml)
            value = _train(config, place, parts, tracker)
    except KeyboardInterrupt:
        (tracker or _tracker(config, place, None)).finish("KILLED", "interrupted")
        raise
    except BaseException as error:
        (tracker or _tracker(config, place, None)).finish("FAILED", f"{type(error).__name__}: {error}")
        if place.sweep:  # the others go on; say now which one did not
            print(f"{_title(config, place)}: FAILED, {type(error).__name__}: {error}", file=sys.stderr)
        raise
    tracker.finish("FINISHED")
    return value


def _train(config: Config, place: Place, parts: Parts, tracker: Tracker) -> float:
    seed_everything(config.seed)  # building may have drawn; training starts from the same state for every schedule
    _record_schedule(parts, config.events(), tracker)
    title = _title(config, place)
    view = Bar(title=title, total_steps=parts.total_steps) if config.trainer.progress else nullcontext(Silent())
    with view as progress:
        validation = build_trainer(config, parts, recorder=tracker, progress=progress).run()
    final = outcome(config, parts, validation=validation)
    tracker.metrics(final, step=parts.total_steps)
    _save(config, parts, place.folder, tracker)
    metric = parts.task.metric
    print(
        f"{title}: {metric.name} {final[f'final/{metric.name}']:.2f} {metric.unit}, "
        f"{final['final/footprint_total_mb']:.3f} Mb, PD {final['final/pd_total']:.4g}",
        file=sys.stderr,
    )
    return final[f"final/{metric.name}"]


def _title(config: Config, place: Place) -> str:
    title = f"{place.label} · seed {config.seed}"
    return f"[{place.number + 1}/{place.sweep.jobs}] {title}" if place.sweep else title


def _tracker(config: Config, place: Place, parts: Parts | None) -> Tracker:
    info = run_info(config, place, parts)
    trackers: list[Tracker] = [FileTracker(place.folder, info)]
    uri = config.store_uri()
    if uri is not None:
        trackers.append(MlflowTracker(uri, info, parent_run_id=place.sweep.parent_run_id if place.sweep else None))
    return Trackers(trackers)


def run_info(config: Config, place: Place, parts: Parts | None) -> RunInfo:
    """A run's name, tags and parameters as tracking records them; `parts` is None for one that could not be built."""
    schedule = config.events()
    tags = {
        "task": config.task.name,
        "model": config.model.name,
        "data": config.data.name,
        "schedule": place.label,
        "order": schedule.name,
        "signature": schedule.signature,
        "variant": place.variant,
        "seed": str(config.seed),
        "sweep": place.sweep.name if place.sweep else "",
    }
    if parts is not None:
        per_epoch, metric = parts.task.steps_per_epoch, parts.task.metric
        tags["order"] = schedule.name_for(total_steps=parts.total_steps, steps_per_epoch=per_epoch)
        tags |= {"metric": metric.name, "metric_unit": metric.unit}
        tags["metric_direction"] = "up" if metric.higher_is_better else "down"
    name = f"{place.label} · seed {config.seed}"
    return RunInfo(name, config.task.name, tags, flatten(config.model_dump()))


def _record_schedule(parts: Parts, schedule: Schedule, tracker: Tracker) -> None:
    figure = schedule_figure(parts.stages, steps_per_epoch=parts.task.steps_per_epoch, title=schedule.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.png"
        figure.savefig(path, dpi=150)
        tracker.artifact(path)
    tracker.text("stages.json", json.dumps([describe_stage(stage) for stage in parts.stages], indent=1))


def describe_stage(stage: Stage) -> dict[str, object]:
    """A stage as plain data."""
    return {
        "first": stage.first,
        "last": stage.last,
        "weight": asdict(stage.weight),
        "activation": asdict(stage.activation),
        "fires": sorted(f"{op} {target}" for op, target in stage.fires),
    }


def _save(config: Config, parts: Parts, folder: Path, tracker: Tracker) -> None:
    """Writes what the run made: the sites with their footprint, and the weights with masks and scales."""
    tracker.text("sites.csv", pd.DataFrame([asdict(site) for site in parts.compressor.summary()]).to_csv(index=False))
    if not config.trainer.save_model:
        return
    networks = {name: network.state_dict() for name, network in parts.task.networks().items()}
    path = folder / "model.pt"
    torch.save({"networks": networks, "compressor": parts.compressor.state_dict()}, path)
    tracker.artifact(path)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, so that a scheduler's stop is recorded (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
