"""The one training loop: any task, any schedule. A schedule's events are applied between steps and nowhere else."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qp_runner.compress import CalibrationError, Compressor
from qp_runner.schedule import Stage, Target
from qp_runner.tasks import Task
from qp_runner.training.executors import Kind, make_step
from qp_runner.training.optim import LearningRate, MakeOptimizer, build_optimizers
from qp_runner.training.progress import ProgressView, Silent
from qp_runner.training.recorder import Recorder
from qp_runner.training.step import Precision, autocast

CHECK_EVERY = 100  # steps between looks at the loss; each look waits for the device


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is trained; `calibration_samples` choose masks and scales when an event fires. Validation data is
    measured after every `evaluate_every` epochs and after the last one.
    """

    epochs: int
    evaluate_every: int = 1
    calibration_samples: int = 256
    calibration_batch_size: int = 64
    precision: Precision = "float32"
    executor: Kind = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Trainer:
    """Trains a task's networks while a compressor follows a schedule's stages.

    Args:
        task: networks, data, losses and metric; already on `settings.device`.
        compressor: attached to the task's compressible networks, or None for a plain float run.
        stages: `Schedule.compile(...)` for `settings.epochs` of the task's steps.
        make_optimizer: parameter groups to optimizer, once per name the task uses.
    """

    def __init__(
        self,
        *,
        task: Task,
        compressor: Compressor | None,
        stages: Sequence[Stage],
        make_optimizer: MakeOptimizer,
        settings: TrainerSettings,
        recorder: Recorder,
        learning_rate: LearningRate | None = None,
        progress: ProgressView | None = None,
    ) -> None:
        self.task, self.compressor, self.settings, self.recorder = task, compressor, settings, recorder
        self.progress: ProgressView = progress or Silent()
        self.optimizers = build_optimizers(task.parameter_groups(), make_optimizer)
        self.learning_rate = learning_rate
        self.step = make_step(
            settings.executor,
            task,
            self.optimizers,
            compressor=compressor,
            precision=settings.precision,
            device=settings.device,
        )
        self.lr_schedules = [learning_rate.make(o) for o in self.optimizers.values()] if learning_rate else []
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._starts = {stage.first: stage for stage in stages}
        self._stages = len(stages)
        self._validation: Mapping[str, float] = {}

    def run(self) -> Mapping[str, float]:
        """Trains to the end; returns what the last epoch measured on validation data.

        Raises TrainingDivergedError when the loss, weights or activations stop being finite.
        """
        step = 0
        for epoch in range(self.settings.epochs):
            step = self._epoch(epoch, step)
        return self._validation

    def _epoch(self, epoch: int, step: int) -> int:
        started, total, since_check = time.perf_counter(), torch.zeros((), device=self.settings.device), 0
        self.progress.describe(epoch=f"epoch {epoch + 1}/{self.settings.epochs}")
        self._train_mode()
        for batch in self.task.batches(epoch):
            self._enter_due(step)
            total += self.step(batch)
            step, since_check = step + 1, since_check + 1
            if self.learning_rate and self.learning_rate.interval == "step":
                self._step_lr()
            if since_check == CHECK_EVERY:
                self._check(total, epoch, step)
                since_check = 0
            self.progress.advance()
        loss = self._check(total, epoch, step) / self.task.steps_per_epoch
        learning_rate = self._current_lr()
        if self.learning_rate and self.learning_rate.interval == "epoch":
            self._step_lr()
        if step == self.total_steps:
            self._enter_due(step)  # an event at the very end: compression after training
        self._record_epoch(step, loss, learning_rate, time.perf_counter() - started)
        return step

    def _train_mode(self) -> None:
        for network in self.task.networks().values():
            network.train()

    def _enter_due(self, step: int) -> None:
        """Applies the events that fire before this step, and records what they made."""
        stage = self._starts.get(step)
        if stage is None or self.compressor is None:
            return
        try:
            self.compressor.enter(stage, run=self._calibrate)
        except CalibrationError as error:
            raise TrainingDivergedError(f"at the events of step {step} of {self.total_steps}: {error}") from error
        self.recorder.metrics(compression_state(self.compressor), step=step)
        done = sum(first <= step for first in self._starts)
        self.progress.describe(stage=f"stage {done}/{self._stages} {_describe(stage)}")

    def _calibrate(self) -> None:
        with torch.no_grad(), autocast(self.settings.precision, self.settings.device):
            samples, size = self.settings.calibration_samples, self.settings.calibration_batch_size
            for batch in self.task.calibration_batches(samples=samples, batch_size=size):
                self.task.infer(batch)

    def _check(self, total: Tensor, epoch: int, step: int) -> float:
        value = total.item()
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"the loss became {value} in epoch {epoch + 1}, by step {step} of {self.total_steps}: "
                "try a lower trainer.optimizer.lr, or later or gentler events"
            )
        return value

    def _step_lr(self) -> None:
        for schedule in self.lr_schedules:
            schedule.step()

    def _current_lr(self) -> float:
        return float(next(iter(self.optimizers.values())).param_groups[0]["lr"])

    def _record_epoch(self, step: int, loss: float, learning_rate: float, seconds: float) -> None:
        values = {"train/loss": loss, "train/lr": learning_rate, "time/epoch_s": seconds}
        self.progress.describe(loss=f"loss {loss:.4g}")
        if step == self.total_steps or step // self.task.steps_per_epoch % self.settings.evaluate_every == 0:
            values |= self._measure()
        if self.compressor is not None:
            values |= compression_state(self.compressor)
        self.recorder.metrics(values, step=step)

    def _measure(self) -> dict[str, float]:
        """What validation data says of the networks, under its record names."""
        with autocast(self.settings.precision, self.settings.device):
            measured = self._validation = self.task.evaluate("val")
        metric = self.task.metric
        self.progress.describe(metric=f"{metric.name} {measured[metric.name]:.2f}{metric.unit}")
        return {f"val/{name}": value for name, value in measured.items()}


def compression_state(compressor: Compressor) -> Mapping[str, float]:
    """The measured sparsity and bits of both targets, under their record names."""
    values: dict[str, float] = {}
    for target in Target:
        values[f"compress/sparsity_{target}"] = compressor.sparsity(target)
        values[f"compress/bits_{target}"] = float(compressor.bits(target))
    return values


def _describe(stage: Stage) -> str:
    def target(state_of: Target) -> str:
        state = stage.state(state_of)
        parts = [f"{state.sparsity:.0%}"] if state.sparsity else []
        return "·".join(parts + ([f"{state.bits}b"] if state.bits < 32 else [])) or "float"

    return f"w {target(Target.WEIGHT)} f {target(Target.ACTIVATION)}"
