"""The one training loop: any task, any schedule. A schedule's events are applied between steps and nowhere else."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from qp_runner.compress import CalibrationError, Compressor
from qp_runner.schedule import Stage
from qp_runner.tasks import Task
from qp_runner.training.epoch import Epoch
from qp_runner.training.executors import make_step
from qp_runner.training.measured import compression_state, describe_stage
from qp_runner.training.optim import LearningRate, LearningRates, MakeOptimizer, build_optimizers
from qp_runner.training.progress import ProgressView, Silent
from qp_runner.training.recorder import History, Recorder
from qp_runner.training.resume import capture, recorded, restore, set_random_state
from qp_runner.training.settings import TrainerSettings, TrainingDivergedError
from qp_runner.training.step import autocast
from qp_runner.training.trunk import Trunk

CHECK_EVERY = 100  # steps between looks at the loss; each look waits for the device


class Trainer:
    """Trains a task's networks while a compressor follows a schedule's stages.

    Args:
        task: networks, data, losses and metric; already on `settings.device`.
        compressor: attached to the task's compressible networks, or None for a plain float run.
        stages: `Schedule.compile(...)` for `settings.epochs` of the task's steps.
        make_optimizer: parameter groups to optimizer, once per name the task uses.
        trunk: where the run starts from stored state and leaves its own; None: from the first step, storing nothing.

    Attributes:
        resumed_from: the steps that were taken from the store instead of being computed.
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
        trunk: Trunk | None = None,
    ) -> None:
        self.task, self.compressor, self.settings, self.trunk = task, compressor, settings, trunk
        self.recorder = History(recorder)
        self.progress: ProgressView = progress or Silent()
        self.optimizers = build_optimizers(task.parameter_groups(), make_optimizer)
        self.step = make_step(
            settings.executor,
            task,
            self.optimizers,
            compressor=compressor,
            precision=settings.precision,
            device=settings.device,
        )
        self.lr = LearningRates(self.optimizers, learning_rate)
        self.total_steps = settings.epochs * task.steps_per_epoch
        self._starts = {stage.first: stage for stage in stages}
        self._stages = len(stages)
        self._validation: Mapping[str, float] = {}
        self._setup_recorded = 0.0
        self.resumed_from = 0
        self.events_fired = False
        self._random: dict[str, Any] | None = None  # of a resumed run, until its first step

    @property
    def history(self) -> list[tuple[int, dict[str, float]]]:
        """Everything recorded so far, with its steps."""
        return self.recorder.entries

    def run(self) -> Mapping[str, float]:
        """Trains to the end; returns what the last epoch measured on validation data.

        Raises TrainingDivergedError when the loss, weights or activations stop being finite.
        """
        epoch, step = self._begin()
        while epoch.number < self.settings.epochs:
            step = self._epoch(epoch, step)
            epoch = Epoch.start(epoch.number + 1, device=self.settings.device)
        if self.trunk is not None:
            self.trunk.finish()
        return self._validation

    def _begin(self) -> tuple[Epoch, int]:
        """Where to start: at the first step, or with the deepest stored state of this very run."""
        device = self.settings.device
        content = self.trunk.deepest() if self.trunk is not None else None
        if content is None:
            return Epoch.start(0, device=device), 0
        restore(self, content)
        self._random = content["random"]
        for at, values in recorded(content):
            self.recorder.metrics(values, step=at)
        step = self.resumed_from = int(content["step"])
        self.events_fired = content["compressor"] is not None
        epoch = Epoch.start(int(content["epoch"]), device=device, loss=content["loss"], seconds=content["seconds"])
        self.progress.advance(step)
        return epoch, step

    def _epoch(self, epoch: Epoch, step: int) -> int:
        """Trains an epoch from `step` on, which lies in it; returns the steps done."""
        self.progress.describe(epoch=f"epoch {epoch.number + 1}/{self.settings.epochs}")
        self._train_mode()
        first = epoch.number * self.task.steps_per_epoch
        for batch in self._batches(epoch.number, skip=step - first):
            self._keep(epoch, step)
            self._enter_due(step)
            epoch.loss += self.step(batch)
            step += 1
            self.lr.after("step")
            if (step - first) % CHECK_EVERY == 0:
                epoch.checked(place=self._place(step))
            self.progress.advance()
        if step == self.total_steps:
            self._keep(epoch, step)
        loss = epoch.checked(place=self._place(step)) / self.task.steps_per_epoch
        learning_rate = self.lr.current
        self.lr.after("epoch")
        if step == self.total_steps:
            self._enter_due(step)  # an event at the very end: compression after training
        self._record_epoch(step, loss, learning_rate, epoch.seconds)
        return step

    def _batches(self, epoch: int, *, skip: int) -> Iterator[Any]:
        """An epoch's batches without its first ones. They are a function of seed and epoch: the rest stays the same."""
        return islice(self.task.batches(epoch), skip, None) if skip < self.task.steps_per_epoch else iter(())

    def _keep(self, epoch: Epoch, step: int) -> None:
        """Stores the state before a step, its events included, where that is due; completes a resumption.

        Generators are put back here, not earlier: an epoch's batches may have drawn from them on being asked for.
        """
        if self._random is not None:
            set_random_state(self._random, self.settings.device)
            self._random = None
        elif self.trunk is not None and self.trunk.due(step):
            self.trunk.keep(step, lambda: capture(self) | epoch.state() | {"step": step})

    def _place(self, step: int) -> str:
        return f"step {step} of {self.total_steps}"

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
            raise TrainingDivergedError(f"at the events of {self._place(step)}: {error}") from error
        self.events_fired = self.events_fired or bool(stage.fires)
        self.recorder.metrics(compression_state(self.compressor), step=step)
        done = sum(first <= step for first in self._starts)
        self.progress.describe(stage=f"stage {done}/{self._stages} {describe_stage(stage)}")

    def _calibrate(self) -> None:
        with torch.no_grad(), autocast(self.settings.precision, self.settings.device):
            samples, size = self.settings.calibration_samples, self.settings.calibration_batch_size
            for batch in self.task.calibration_batches(samples=samples, batch_size=size):
                self.task.infer(batch)

    def _record_epoch(self, step: int, loss: float, learning_rate: float, seconds: float) -> None:
        values = {"train/loss": loss, "train/lr": learning_rate, "time/epoch_s": seconds}
        if setup := self.step.setup_seconds - self._setup_recorded:
            values["time/setup_s"] = setup
            self._setup_recorded += setup
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
