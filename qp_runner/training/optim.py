"""Optimizers and learning-rate schedules of a task's parameter groups."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

MakeOptimizer = Callable[[Iterable[dict[str, Any]]], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True)
class LearningRate:
    """How to make an optimizer's learning-rate schedule, and whether it steps once an epoch or once a step."""

    make: MakeSchedule
    interval: Literal["epoch", "step"] = "epoch"


class LearningRates:
    """The learning-rate schedules of a run's optimizers, all made alike; without `kind` the rates are constant."""

    def __init__(self, optimizers: Mapping[str, Optimizer], kind: LearningRate | None) -> None:
        self._first = next(iter(optimizers.values()))
        self._interval = kind.interval if kind else None
        self._schedules = [kind.make(optimizer) for optimizer in optimizers.values()] if kind else []

    @property
    def current(self) -> float:
        """The rate of the first optimizer's first parameter group."""
        return float(self._first.param_groups[0]["lr"])

    def after(self, interval: Literal["epoch", "step"]) -> None:
        """Advances the schedules if they step at the end of this interval."""
        if interval == self._interval:
            for schedule in self._schedules:
                schedule.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """The schedules' states as plain data."""
        return [schedule.state_dict() for schedule in self._schedules]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restores what `state_dict` gave."""
        for schedule, state in zip(self._schedules, states, strict=True):
            schedule.load_state_dict(state)


def build_optimizers(groups: Mapping[str, list[dict[str, Any]]], make: MakeOptimizer) -> dict[str, Optimizer]:
    """One optimizer per name. A group's `lr_scale` multiplies the configured learning rate for that group."""
    optimizers = {}
    for name, task_groups in groups.items():
        optimizer = make([{key: value for key, value in group.items() if key != "lr_scale"} for group in task_groups])
        for built, group in zip(optimizer.param_groups, task_groups, strict=True):
            built["lr"] = built["lr"] * group.get("lr_scale", 1.0)
        optimizers[name] = optimizer
    return optimizers


@dataclass(frozen=True)
class ConstantThenLinear:
    """A factor of 1 for `constant` of `total` steps, then linear decay that would reach 0 one step after the last.

    The learning-rate schedule of Pix2Pix and CycleGAN.
    """

    constant: int
    total: int

    def __call__(self, step: int) -> float:
        """The factor at a step, counted from 0."""
        decay = self.total - self.constant
        return max(0.0, 1 - max(0, step - self.constant + 1) / (decay + 1))


def constant_then_linear(optimizer: Optimizer, *, constant: float, total: int) -> LRScheduler:
    """Keeps the configured learning rate for the first part of training, then decays it linearly to almost zero.

    Args:
        optimizer: the optimizer whose rate it is.
        constant: the share of training before the decay.
        total: how often the schedule steps in all: `total_steps` if it does so after every step.

    Raises:
        ValueError: a share outside [0, 1], a total below 1.
    """
    if not 0 <= constant <= 1 or total < 1:
        raise ValueError(f"constant={constant}, total={total}: a share in [0, 1] and at least one step")
    return LambdaLR(optimizer, ConstantThenLinear(round(constant * total), total))
