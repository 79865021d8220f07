"""What decides a run's state, and what makes two commands the same run, from a checked configuration."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qp_runner.config import Config
from qp_runner.run.build import Parts
from qp_runner.run.initial import model_record
from qp_runner.schedule import Stage
from qp_runner.training import CheckpointStore, Identity, RunCheckpoints, numerics, resolve_executor
from qp_runner.training.code import foreign_code
from qp_runner.training.executors import Executor
from qp_runner.training.identity import digest, source_digest

GIGA = 10**9
_BUILDING = ("build", "example_inputs", "initial", "loading", "model_file", "networks", "task", "teacher")
DECIDING = (
    *("schedule", "compress", "models", "data", "tasks", "training", "config/instantiate.py"),
    *(f"run/{name}.py" for name in _BUILDING),
)
"""The parts of this package whose source decides what a training step computes."""

NOT_IN_IDENTITY = {"progress", "save_model", "device", "executor"}
"""Keys of `trainer` that can't change a run's state, or that `numerics` has with their resolved value."""


def identity(
    config: Config, *, stages: tuple[Stage, ...], steps_per_epoch: int, parts: Parts | None = None
) -> Identity:
    """What decides the state of a run at each of its steps.

    Args:
        config: of the run.
        stages: the compiled schedule.
        steps_per_epoch: of the task.
        parts: the built run; None in planning, before processor, data and weights are known.
    """
    plain = config.model_dump()
    trainer = _without(plain["trainer"], NOT_IN_IDENTITY) | {"steps_per_epoch": steps_per_epoch}
    plain["model"] = model_record(config)
    context: dict[str, Any] = {name: _without(plain[name], {"name"}) for name in ("task", "data", "model")}
    context |= {"seed": config.seed, "trainer": trainer}
    context["code"] = {"qp_runner": source_digest(DECIDING)} | foreign_code(context)
    if parts is None:
        executor = _planned_executor(config)
        context["numerics"] = {"device": config.trainer.device, "executor": executor}
    else:
        executor = resolve_executor(config.trainer.executor, parts.task, parts.device)
        context["numerics"] = numerics(parts.device) | {"executor": executor}
        context["content"] = parts.content.digest
        trainer["threads"] = None  # numerics has the number in use
    if executor != "eager":  # other shapes of masks make other kernels, which round otherwise even before any event
        context["compress"] = {"granularity": config.compress.granularity}
    return Identity(context, stages, _without(plain["compress"], {"footprint"}))


def _planned_executor(config: Config) -> Executor:
    """The executor as far as it is known before a task is built; tasks that always run eagerly share more than this."""
    if config.trainer.executor != "auto":
        return config.trainer.executor
    device = config.trainer.device
    on_gpu = torch.cuda.is_available() if device == "auto" else device.startswith("cuda")
    return "graph" if on_gpu else "eager"


def job_digest(config: Config) -> str:
    """What makes two commands the same run: all of the configuration except where results go and how they are shown."""
    plain = config.model_dump(exclude={"results", "tracking", "checkpoint", "search"})
    plain["trainer"] = _without(plain["trainer"], {"progress"})
    plain["model"] = model_record(config)
    return digest({"config": plain, "code": [source_digest(DECIDING), foreign_code(plain)], "torch": torch.__version__})


def run_checkpoints(
    config: Config,
    own: Identity,
    *,
    ignored: frozenset[str],
    checkpoint_steps: frozenset[int] = frozenset(),
    sweep: Path | None = None,
) -> RunCheckpoints | None:
    """The run's checkpoints, in the folder `checkpoints` below `results`; None if they are turned off.

    Args:
        config: of the run.
        own: its identity.
        ignored: marks of checkpoints that are not used.
        checkpoint_steps: steps at which other jobs need this one's state.
        sweep: the folder of the run's sweep.
    """
    section = config.checkpoint
    if not section.enabled:
        return None
    store = replace(_store(config), ignored=ignored, sweep=sweep)
    return RunCheckpoints(store, own, every=section.every, checkpoint_steps=checkpoint_steps)


def stored_before(config: Config) -> frozenset[str]:
    """Marks of the checkpoints that `checkpoint.fresh` forbids to use: those there when the command starts."""
    return _store(config).marks() if config.checkpoint.fresh else frozenset()


def _store(config: Config) -> CheckpointStore:
    return CheckpointStore(Path(config.results).resolve() / "checkpoints", int(config.checkpoint.limit_gb * GIGA))


def _without(section: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}
