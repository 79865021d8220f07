"""One run, from its configuration to its records."""

import csv
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from qp_runner.config import Config
from qp_runner.config.instantiate import flatten
from qp_runner.report.schedule_picture import save_schedule
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.run.identity import identity, run_checkpoints
from qp_runner.run.outcome import outcome
from qp_runner.run.pictures import save_pictures
from qp_runner.schedule import Schedule
from qp_runner.sweep import Sweep
from qp_runner.tracking import FileTracker, RunInfo, Tracker, Trackers, later, mlflow_tracker
from qp_runner.training import Bar, RunCheckpoints, Silent, Trainer, seed_everything, set_numerics


@dataclass(frozen=True)
class Place:
    """Where a run belongs: its folder, the choices that name it, its sweep if it has one, its number in it."""

    folder: Path
    choices: Mapping[str, str]
    label: str
    variant: str = ""
    sweep: Sweep | None = None
    sweep_folder: Path | None = None
    number: int = 0


def run(config: Config, place: Place, *, config_yaml: str) -> float:
    """Trains, evaluates and records one run; returns its metric on the test split.

    A failure is recorded (FAILED with its error; KILLED for Ctrl-C or SIGTERM) and raised again.
    """
    tracker: Tracker | None = None
    try:
        with _terminate_as_interrupt():
            set_numerics(
                deterministic=config.trainer.deterministic,
                threads=config.trainer.threads,
                tf32=config.trainer.precision == "tf32",
            )
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
    _record_schedule(parts, config.events(), place.folder, tracker)
    title = _title(config, place)
    view = Bar(title=title, total_steps=parts.total_steps) if config.trainer.progress else nullcontext(Silent())
    with view as progress:
        checkpoints = _checkpoints(config, place, parts)
        trainer = build_trainer(config, parts, recorder=tracker, progress=progress, checkpoints=checkpoints)
        validation = trainer.run()
    final = outcome(config, parts, validation=validation)
    tracker.metrics(final | {"time/computed_steps": parts.total_steps - trainer.resumed_from}, step=parts.total_steps)
    _save(config, parts, place.folder, tracker)
    save_pictures(parts.task, tracker)
    metric = parts.task.metric
    value = final[f"final/{metric.name}"]
    print(
        f"{title}: {metric.name} {f'{value:.2f} {metric.unit}'.strip()}, "
        f"{final['final/footprint_total_mb']:.3f} Mb, PD {final['final/pd_total']:.4g}{_resumed(trainer, parts)}",
        file=sys.stderr,
    )
    return value


def _checkpoints(config: Config, place: Place, parts: Parts) -> RunCheckpoints | None:
    own = identity(config, stages=parts.stages, steps_per_epoch=parts.task.steps_per_epoch, parts=parts)
    if place.sweep is None:
        return run_checkpoints(config, own, since=time.time() if config.checkpoint.fresh else 0.0)
    steps = frozenset(place.sweep.also.get(str(place.number), ()))
    since = place.sweep.since
    return run_checkpoints(config, own, since=since, checkpoint_steps=steps, sweep=place.sweep_folder)


def _resumed(trainer: Trainer, parts: Parts) -> str:
    """How much of a run was there already, in words; nothing where it was computed whole."""
    if not trainer.resumed_from:
        return ""
    per_epoch = parts.task.steps_per_epoch
    return f" ({trainer.resumed_from / per_epoch:.4g} of {parts.total_steps / per_epoch:.4g} epochs were stored)"


def _title(config: Config, place: Place) -> str:
    title = f"{place.label} · seed {config.seed}"
    return f"[{place.number + 1}/{place.sweep.jobs}] {title}" if place.sweep else title


def _tracker(config: Config, place: Place, parts: Parts | None) -> Tracker:
    info = run_info(config, place, parts)
    trackers: list[Tracker] = [FileTracker(place.folder, info)]
    uri = config.store_uri()
    if uri is not None:
        trackers.append(mlflow_tracker(uri, info, parent_run_id=place.sweep.parent_run_id if place.sweep else None))
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
        **({"job": str(place.number)} if place.sweep else {}),
    }
    if parts is not None:
        per_epoch, metric = parts.task.steps_per_epoch, parts.task.metric
        tags["order"] = schedule.name_for(total_steps=parts.total_steps, steps_per_epoch=per_epoch)
        tags |= {"metric": metric.name, "metric_unit": metric.unit}
        tags["metric_direction"] = "up" if metric.higher_is_better else "down"
    name = f"{place.label} · seed {config.seed}"
    return RunInfo(name, config.task.name, tags, flatten(config.model_dump(exclude={"search"})))


def _record_schedule(parts: Parts, schedule: Schedule, folder: Path, tracker: Tracker) -> None:
    picture = folder / "artifacts" / "schedule.png"
    later(save_schedule, picture, parts.stages, parts.task.steps_per_epoch, schedule.name)
    tracker.artifact(picture)
    tracker.text("stages.json", json.dumps([stage.record() for stage in parts.stages], indent=1))


def _save(config: Config, parts: Parts, folder: Path, tracker: Tracker) -> None:
    """Writes what the run made: the sites with their footprint, and the weights with masks and scales."""
    tracker.text("sites.csv", _table([asdict(site) for site in parts.compressor.summary()]))
    if not config.trainer.save_model:
        return
    networks = {name: network.state_dict() for name, network in parts.task.networks().items()}
    path = folder / "model.pt"
    torch.save({"networks": networks, "compressor": parts.compressor.state_dict()}, path)
    tracker.artifact(path)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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
