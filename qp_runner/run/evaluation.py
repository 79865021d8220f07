"""A finished run measured again, on other data too, as a run of its own below it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from qp_runner.compress import Compressor
from qp_runner.config import Config
from qp_runner.config.instantiate import flatten
from qp_runner.errors import ConfigError
from qp_runner.run.build import device_of, lay_out
from qp_runner.run.loading import put_back, without_initial
from qp_runner.run.model_file import About, ModelFile
from qp_runner.run.outcome import figures
from qp_runner.run.task import build_compressor, build_task
from qp_runner.tasks import Task
from qp_runner.tracking import RunFiles, RunInfo, store_key
from qp_runner.training import seed_everything, set_numerics
from qp_runner.training.step import autocast

FOLDER = "evaluations"


def new_folder(run: Path) -> Path:
    """Where an evaluation of a run in a folder is recorded."""
    return run / FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"


def in_results_of(run: Path, config: Config, overrides: Sequence[str]) -> Config:
    """A configuration with the results folder that a run's folder lies in; unchanged where it lies elsewhere.

    Raises ConfigError for overrides that name another one: what is recorded belongs to the run.
    """
    inside = [each.parent for each in run.resolve().parents if each.name in ("runs", "sweeps")]
    results = inside[-1] if inside else Path(config.results)
    asked = any(each.lstrip("+").startswith("results=") for each in overrides)
    if asked and Path(config.results).resolve() != results.resolve():
        raise ConfigError("results", config.results, f"{results}, which the run is in, or nothing at all")
    return config.model_copy(update={"results": str(results)})


def evaluate(config: Config, file: ModelFile, folder: Path, *, changed: Mapping[str, str]) -> dict[str, float]:
    """Measures a run's networks and records it; returns what was recorded.

    Args:
        config: of the run, with what was changed for this.
        file: what the run left.
        folder: takes the records.
        changed: the overrides.

    Raises ConfigError for data that do not suit the networks.
    """
    set_numerics(
        deterministic=config.trainer.deterministic,
        threads=config.trainer.threads,
        tf32=config.trainer.precision == "tf32",
    )
    seed_everything(config.seed)
    files = RunFiles(folder, _info(config, file, changed), store=store_key(config.store_uri(), Path(config.results)))
    try:
        task, compressor = restored(config, file)
        with autocast(config.trainer.precision, device_of(config)):
            validation = task.evaluate("val")
        found = figures(config, task, compressor, validation=validation)
        files.metrics(found, step=0)
    except KeyboardInterrupt:
        files.finish("KILLED", "interrupted")
        raise
    except BaseException as error:
        files.finish("FAILED", f"{type(error).__name__}: {error}")
        raise
    files.finish("FINISHED")
    return found


def restored(config: Config, file: ModelFile) -> tuple[Task, Compressor]:
    """A run's task, with the data of `config`, and its networks as a file holds them, on the device.

    Samples are prepared as they were in training, whatever the data. Raises ConfigError for data with other classes.
    """
    config = without_initial(config)
    task = build_task(config)
    _check_classes(task, file.about, config)
    adapt: Any = getattr(task.data, "with_preprocessing", None)
    if file.about.preprocessing is not None and adapt is not None:
        task.data = adapt(file.preprocessing)
    device = device_of(config)
    task.to(device)
    lay_out(config, task, device)
    compressor = build_compressor(config, task)
    put_back(file, task.networks(), compressor)
    return task, compressor


def _check_classes(task: Task, about: About, config: Config) -> None:
    own, given = list(about.classes), list(task.class_names())
    if len(own) != len(given):
        allowed = f"data of the run's {len(own)} classes ({', '.join(own[:5])}, ...); this has {len(given)}"
        raise ConfigError("data", config.data.name, allowed)


def _info(config: Config, file: ModelFile, changed: Mapping[str, str]) -> RunInfo:
    """Without the tag `schedule`: a report counts runs that were trained."""
    tags = {
        "task": config.task.name,
        "model": config.model.name,
        "data": config.data.name,
        "seed": str(config.seed),
        "evaluated": file.path.parent.name,
        "changed": ", ".join(f"{key}={value}" for key, value in changed.items()),
    }
    return RunInfo(
        f"evaluation · {config.data.name}", config.task.name, tags, flatten(config.model_dump(exclude={"search"}))
    )
