"""From a checked configuration to the objects of a run."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.optim import Optimizer

from qp_runner.compress import Compressor, Coverage, check_single_samples
from qp_runner.config import Config
from qp_runner.config.instantiate import call, instantiate
from qp_runner.errors import ConfigError
from qp_runner.run.initial import load_initial_sites
from qp_runner.run.networks import given, network_factories
from qp_runner.run.task import build_compressor, build_task
from qp_runner.run.teacher import load_teacher
from qp_runner.schedule import Stage, Target, Time, starting_from
from qp_runner.tasks import Task
from qp_runner.training import (
    Content,
    EarlyStop,
    LearningRate,
    MakeOptimizer,
    ProgressView,
    Recorder,
    RunCheckpoints,
    SharedStep,
    StepOptions,
    Trainer,
    TrainerSettings,
    choose_device,
    content_of,
    resolve_executor,
)


@dataclass(frozen=True)
class Parts:
    """All that a run consists of.

    Attributes:
        content: of its data and initial weights; empty without checkpoints.
        given: by network, what it was built with in addition to its configuration; None if that is no plain data.
    """

    task: Task
    compressor: Compressor
    stages: tuple[Stage, ...]
    device: torch.device
    content: Content = field(default_factory=Content)
    given: dict[str, dict[str, Any]] | None = None

    @cached_property
    def coverage(self) -> Coverage:
        """How much of the networks is in sites."""
        return self.compressor.coverage()

    @property
    def total_steps(self) -> int:
        """Training steps of the whole run."""
        return self.stages[-1].last + 1


def build(config: Config) -> Parts:
    """Builds data, task, compressor and stages. Raises ConfigError for what does not fit together."""
    device = device_of(config)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # graphs are captured on the current device
    factories = network_factories(config)
    task = build_task(config, networks=factories)
    if config.trainer.teacher is not None:
        task.teacher = load_teacher(config, task)
    content = content_of(task) if config.checkpoint.enabled else Content()
    task.to(device)
    lay_out(config, task, device)
    stages = compile_schedule(config, steps_per_epoch=task.steps_per_epoch)
    compressor = build_compressor(config, task)
    compressor.check(stages)
    if config.model.init_compression:
        load_initial_sites(config, compressor)
        weight, activation = (compressor.state(target) for target in Target)
        stages = starting_from(stages, weight=weight, activation=activation)
    if config.trainer.batch_size == 1:
        check_single_samples(task.networks(), lambda: task.infer(task.sample()))
    return Parts(task, compressor, stages, device, content, given(factories))


def compile_schedule(config: Config, *, steps_per_epoch: int) -> tuple[Stage, ...]:
    """The schedule's stages for this run's length (ConfigError for an event past the end)."""
    return config.events().compile(total_steps=config.trainer.epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)


def build_trainer(
    config: Config,
    parts: Parts,
    *,
    recorder: Recorder,
    progress: ProgressView | None = None,
    checkpoints: RunCheckpoints | None = None,
    shared_step: SharedStep | None = None,
) -> Trainer:
    """The trainer of a run, ready to start."""
    return Trainer(
        task=parts.task,
        compressor=parts.compressor,
        stages=parts.stages,
        make_optimizer=build_optimizer(config),
        settings=TrainerSettings(
            epochs=config.trainer.epochs,
            evaluate_every=config.trainer.evaluate_every,
            calibration_samples=config.compress.calibration.samples,
            calibration_batch_size=config.compress.calibration.batch_size,
            executor=config.trainer.executor,
            precision=config.trainer.precision,
            device=parts.device,
            step=_step_options(config, parts.task),
            warmup_steps=_warmup_steps(config, parts),
            ema=config.trainer.ema,
            early_stop=_early_stop(config),
        ),
        recorder=recorder,
        learning_rate=build_learning_rate(
            config, total_steps=parts.total_steps, steps_per_epoch=parts.task.steps_per_epoch
        ),
        progress=progress,
        checkpoints=checkpoints,
        shared_step=shared_step,
    )


def _step_options(config: Config, task: Task) -> StepOptions:
    """Raises ConfigError for batches that can't be passed in parts."""
    count = config.trainer.accumulate
    if config.trainer.batch_size % count:
        raise ConfigError("trainer.accumulate", count, f"a divisor of trainer.batch_size={config.trainer.batch_size}")
    if count > 1 and (not task.fixed_shapes or len(task.parameter_groups()) > 1):
        raise ConfigError("trainer.accumulate", count, "1: this task's batches don't pass in parts")
    return StepOptions(config.trainer.grad_clip, count)


def _warmup_steps(config: Config, parts: Parts) -> int:
    """Raises ConfigError for a warm-up that is longer than the run."""
    text, total = config.trainer.warmup, parts.total_steps
    if text is None:
        return 0
    steps = Time.parse(text).to_step(total_steps=total, steps_per_epoch=parts.task.steps_per_epoch)
    if steps > total:
        raise ConfigError("trainer.warmup", text, f"at most the {total} steps of the run, not {steps}")
    return steps


def _early_stop(config: Config) -> EarlyStop | None:
    section = config.trainer.early_stop
    return None if section.patience is None else EarlyStop(section.patience, section.min_delta)


def build_optimizer(config: Config) -> MakeOptimizer:
    """`trainer.optimizer` as a function of parameter groups."""
    make = instantiate("trainer.optimizer", {**config.trainer.optimizer, "_partial_": True})

    def optimizer(groups: object) -> Optimizer:
        built: Optimizer = call("trainer.optimizer", make, groups)
        return built

    return optimizer


def build_learning_rate(config: Config, *, total_steps: int, steps_per_epoch: int) -> LearningRate | None:
    """`trainer.lr_schedule`, with `total_steps` and `steps_per_epoch` filled in where its values name them."""
    section = config.trainer.lr_schedule
    if section is None or total_steps == 0:
        return None
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    filled = {
        key: lengths.get(value, value) if isinstance(value, str) else value for key, value in section.factory.items()
    }
    make = instantiate("trainer.lr_schedule.factory", {**filled, "_partial_": True})
    return LearningRate(lambda optimizer: call("trainer.lr_schedule.factory", make, optimizer), section.interval)


def lay_out(config: Config, task: Task, device: torch.device) -> None:
    """Networks in the memory layout of `trainer.channels_last`; masks follow the activations they are made for.

    Raises ConfigError for an executor that can't run here.
    """
    try:
        executor = resolve_executor(config.trainer.executor, task, device)
    except ValueError as error:
        raise ConfigError("trainer.executor", config.trainer.executor, str(error)) from error
    wanted = config.trainer.channels_last
    if wanted == "auto":
        wanted = device.type == "cuda" and executor != "eager"
    for network in task.networks().values() if wanted else ():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def device_of(config: Config) -> torch.device:
    """The device of `trainer.device`. Raises ConfigError for one that is not here."""
    try:
        return choose_device(config.trainer.device)
    except ValueError as error:
        raise ConfigError("trainer.device", config.trainer.device, str(error)) from error
