"""Optimizers of a task's parameter groups, and a learning-rate schedule that torch lacks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import SGD, Adadelta, Adam, Adamax, AdamW, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

MakeOptimizer = Callable[[Iterable[dict[str, Any]]], Optimizer]


def build_optimizers(groups: Mapping[str, list[dict[str, Any]]], make: MakeOptimizer) -> dict[str, Optimizer]:
    """One optimizer per name. A group's `lr_scale` multiplies the configured learning rate for that group."""
    optimizers = {}
    for name, task_groups in groups.items():
        optimizer = make([{key: value for key, value in group.items() if key != "lr_scale"} for group in task_groups])
        for built, group in zip(optimizer.param_groups, task_groups, strict=True):
            built["lr"] = built["lr"] * group.get("lr_scale", 1.0)
        optimizers[name] = optimizer
    return optimizers


def starts_at_zero(optimizer: Optimizer) -> bool:
    """Whether all of an optimizer's state is known to be zero before its first step."""
    known = type(optimizer) in (SGD, Adadelta, Adam, AdamW, Adamax, RAdam, RMSprop)
    return known and not any(group.get("dampening") for group in optimizer.param_groups)


def own_settings(group: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's settings for a parameter group, but for the rate; a schedule adds others, which it alone reads."""
    return {name: group[name] for name in optimizer.defaults if name in group and name != "lr"}


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
