"""The one training loop, for any task and any schedule. Events are applied between steps and nowhere else."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from qp_runner.compress import CalibrationError, Compressor
from qp_runner.compress.python_state import Snapshot
from qp_runner.schedule import FLOAT_BITS, Stage, Target
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches
from qp_runner.training.averaging import WeightAverage
from qp_runner.training.checkpoints import RunCheckpoints
from qp_runner.training.early_stop import EarlyStop
from qp_runner.training.executors import Executor, make_step
from qp_runner.training.learning_rates import LearningRate, LearningRates
from qp_runner.training.optim import MakeOptimizer, build_optimizers
from qp_runner.training.progress import ProgressView, Silent
from qp_runner.training.run_state import RunState
from qp_runner.training.shared_step import SharedStep
from qp_runner.training.step import PLAIN, Precision, StepOptions, autocast

log = logging.getLogger(__name__)

CHECK_EVERY = 100  # steps between checks of the loss; each check waits for the device


class TrainingDivergedError(RuntimeError):
    """The loss, weights or activations are no longer finite."""


class Recorder(Protocol):
    """Where the trainer records numbers by name, each at the number of training steps done."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records values; may buffer them, must not block training for long."""


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is trained.

    Attributes:
        evaluate_every: epochs between measurements on validation data; the last epoch is always measured.
        calibration_samples: training samples that masks and scales are chosen from at an event.
        warmup_steps: see `LearningRates`.
        ema: the decay of a `WeightAverage`, on which the run is measured and with which it ends; None for none.
    """

    epochs: int
    evaluate_every: int = 1
    calibration_samples: int = 256
    calibration_batch_size: int = 64
    precision: Precision = "float32"
    executor: Executor = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step: StepOptions = PLAIN
    warmup_steps: int = 0
    ema: float | None = None
    early_stop: EarlyStop | None = None


class Trainer:
    """Trains a task's networks while a compressor follows a schedule's stages.

    Args:
        task: networks, data, losses and metric; already on `settings.device`.
        compressor: attached to the task's compressible networks, or None for a plain float run.
        stages: `Schedule.compile(...)` for `settings.epochs` of the task's steps.
        make_optimizer: makes an optimizer from parameter groups; called once for each name the task uses.
        checkpoints: where to load the run's state from and save it to; None to do neither.
        shared_step: what earlier jobs with the same step left; see `GraphStep`.

    Attributes:
        step: trains on one batch (see `Step`).
        state: what the coming steps depend on.
        resumed_from: the number of steps that were loaded instead of computed.
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
        checkpoints: RunCheckpoints | None = None,
        shared_step: SharedStep | None = None,
    ) -> None:
        self.task, self.compressor, self.settings, self.recorder = task, compressor, settings, recorder
        self.progress: ProgressView = progress or Silent()
        self.checkpoints = checkpoints
        optimizers = build_optimizers(task.parameter_groups(), make_optimizer)
        # Before the step, which may put the rates on the device.
        rates = LearningRates(optimizers, learning_rate, warmup=settings.warmup_steps)
        self.step = make_step(
            settings.executor,
            task,
            optimizers,
            compressor=compressor,
            precision=settings.precision,
            device=settings.device,
            options=settings.step,
            shared=shared_step,
        )
        self.state = RunState(
            task=task,
            compressor=compressor,
            optimizers=optimizers,
            learning_rates=rates,
            device=settings.device,
            average=None if settings.ema is None else WeightAverage(task.compressible(), settings.ema),
        )
        self.total_steps = settings.epochs * task.steps_per_epoch
        self.resumed_from = 0
        self.stages = tuple(stages)
        self._batches: Iterator[Any] | None = None  # those of the epoch that a resumed run begins in
        self._validation: Mapping[str, float] = {}
        self._setup_recorded = 0.0

    def run(self) -> Mapping[str, float]:
        """Trains to the end; returns what the last epoch measured on validation data.

        Raises TrainingDivergedError when the loss, weights or activations stop being finite.
        """
        self._start_or_resume()
        if self.total_steps == 0:
            self._compress_untrained()
        while self.state.epoch < self.settings.epochs and not self._ends_early():
            self._train_epoch()
            self.state.start_epoch(self.state.epoch + 1)
        if self.state.average is not None:
            self.state.average.keep()
        if self.checkpoints is not None:
            self.checkpoints.delete_recovery_point()
        return self._validation

    def _start_or_resume(self) -> None:
        content = self.checkpoints.load_latest(self.state.misfit) if self.checkpoints is not None else None
        batches = None if content is None else self.state.batches_again(content)
        if content is not None and batches is None:
            log.warning("this task's batches depend on more than seed and epoch, so the run shares nothing")
            self.checkpoints = content = None
        if content is None:
            self.state.start_epoch(0)
            return
        self._batches = batches
        self.state.restore(content)
        for step, values in self.state.history:
            self.recorder.metrics(values, step=step)
        self.resumed_from = self.state.steps_done
        self.progress.advance(self.resumed_from)

    def _compress_untrained(self) -> None:
        """All there is to do where there are no steps: events, then a measurement."""
        self._enter_due(0)
        values = self._validate()
        if self.compressor is not None:
            values |= _measured_compression(self.compressor)
        self._record(values, 0)

    def _train_epoch(self) -> None:
        """Trains to the end of the current epoch, of which a resumed run has some steps already."""
        state = self.state
        self.progress.describe(epoch=f"epoch {state.epoch + 1}/{self.settings.epochs}")
        batches, self._batches = self._batches, None
        resumed = batches is not None  # and so with modes and generators restored, and stored already
        if batches is None:
            self._train_mode()
            state.before_batches()
            batches = self.task.given(state.epoch)
        for batch in batches:
            if not resumed:
                self._save_if_due(batch)
            resumed = False
            self._enter_due(state.steps_done)
            state.epoch_loss += self.step(batch)
            state.steps_done += 1
            if state.average is not None:
                state.average.update(state.steps_done)
            state.learning_rates.after("step")
            if self._steps_into_epoch() % CHECK_EVERY == 0:
                self._checked_loss()
            self.progress.advance()
        at_end = state.steps_done == self.total_steps
        if at_end and not resumed:
            self._save_if_due(None)
        loss = self._checked_loss() / self.task.steps_per_epoch
        values = {"train/loss": loss, "train/lr": state.learning_rates.last}
        state.learning_rates.after("epoch")
        if at_end:
            self._enter_due(state.steps_done)  # compression after training
        self._record_epoch(values | {"time/epoch_s": state.epoch_seconds})

    def _ends_early(self) -> bool:
        last_event = max((stage.first for stage in self.stages if stage.fires), default=None)
        early = self.settings.early_stop
        return early is not None and early.reached(self.state.history, self.task.metric, last_event=last_event)

    def _steps_into_epoch(self) -> int:
        return self.state.steps_done - self.state.epoch * self.task.steps_per_epoch

    def _save_if_due(self, batch: Any) -> None:
        """Saves a checkpoint if one is due, before the events of this step and before the step on this batch."""
        if self.checkpoints is not None:
            self.checkpoints.save_if_due(self.state.steps_done, lambda: self.state.capture(batch))

    def _checked_loss(self) -> float:
        """The sum of the epoch's losses; waits for the device. Raises TrainingDivergedError if it is not finite."""
        value = self.state.epoch_loss.item()
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"the loss became {value} in epoch {self.state.epoch + 1}, by {self._position(self.state.steps_done)}: "
                "try a lower trainer.optimizer.lr, or later or gentler events"
            )
        return value

    def _position(self, step: int) -> str:
        return f"step {step} of {self.total_steps}"

    def _train_mode(self) -> None:
        for network in self.task.networks().values():
            network.train()

    def _enter_due(self, step: int) -> None:
        """Applies the events that fire before this step, and records the compression that results."""
        if self.compressor is None:
            return
        try:
            if not self.compressor.enter_due(self.stages, step, run=self._calibrate):
                return
        except CalibrationError as error:
            raise TrainingDivergedError(f"at the events of {self._position(step)}: {error}") from error
        begun = [stage for stage in self.stages if stage.first <= step]
        self.state.events_fired = any(stage.fires for stage in begun)
        self._record(_measured_compression(self.compressor), step)
        self.progress.describe(stage=f"stage {len(begun)}/{len(self.stages)} {_stage_text(begun[-1])}")

    def _calibrate(self) -> None:
        before = Snapshot({"task": self.task}, apart=[*caches(self.task), *self.task.networks().values()])
        with torch.no_grad(), autocast(self.settings.precision, self.settings.device):
            samples, size = self.settings.calibration_samples, self.settings.calibration_batch_size
            for batch in self.task.calibration_batches(samples=samples, batch_size=size):
                self.task.infer(batch)
        before.put_back()

    def _record(self, values: Mapping[str, float], step: int) -> None:
        self.state.history.append((step, {name: float(value) for name, value in values.items()}))
        self.recorder.metrics(values, step=step)

    def _record_epoch(self, values: dict[str, float]) -> None:
        """Records the values, time spent on compiling, validation where it is due, and the compression in force."""
        step = self.state.steps_done
        if setup := self.step.setup_seconds - self._setup_recorded:
            values["time/setup_s"] = setup
            self._setup_recorded += setup
        self.progress.describe(loss=f"loss {values['train/loss']:.4g}")
        if step == self.total_steps or (self.state.epoch + 1) % self.settings.evaluate_every == 0:
            values |= self._validate()
        if self.compressor is not None:
            values |= _measured_compression(self.compressor)
        self._record(values, step)

    def _validate(self) -> dict[str, float]:
        """Measurements on validation data under their record names."""
        averaged = nullcontext() if self.state.average is None else self.state.average.applied()
        with averaged, autocast(self.settings.precision, self.settings.device):
            measured = self._validation = self.task.evaluate("val")
        metric = self.task.metric
        self.progress.describe(metric=f"{metric.name} {measured[metric.name]:.2f}{metric.unit}")
        return {f"val/{name}": value for name, value in measured.items()}


def _measured_compression(compressor: Compressor) -> dict[str, float]:
    """The measured sparsity and bits of both targets under their record names."""
    values: dict[str, float] = {}
    for target in Target:
        state = compressor.state(target)
        values |= {f"compress/sparsity_{target}": state.sparsity, f"compress/bits_{target}": float(state.bits)}
    return values


def _stage_text(stage: Stage) -> str:
    """Both targets of a stage, such as `w 50%·8b f float`."""

    def text(target: Target) -> str:
        state = stage.state(target)
        parts = [f"{state.sparsity:.0%}"] if state.sparsity else []
        return "·".join(parts + ([f"{state.bits}b"] if state.bits < FLOAT_BITS else [])) or "float"

    return f"w {text(Target.WEIGHT)} f {text(Target.ACTIVATION)}"
