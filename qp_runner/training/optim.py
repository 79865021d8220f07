"""Optimizers and learning-rate schedules of a task's parameter groups."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

MakeOptimizer = Callable[[Iterable[dict[str, Any]]], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True)
class LearningRate:
    """How to make an optimizer's learning-rate schedule, and whether it steps once an epoch or once a step."""

    make: MakeSchedule
    interval: Literal["epoch", "step"] = "epoch"


def build_optimizers(groups: Mapping[str, list[dict[str, Any]]], make: MakeOptimizer) -> dict[str, Optimizer]:
    """One optimizer per name. A group's `lr_scale` multiplies the configured learning rate for that group."""
    optimizers = {}
    for name, task_groups in groups.items():
        optimizer = make([{key: value for key, value in group.items() if key != "lr_scale"} for group in task_groups])
        for built, group in zip(optimizer.param_groups, task_groups, strict=True):
            built["lr"] = built["lr"] * group.get("lr_scale", 1.0)
        optimizers[name] = optimizer
    return optimizers
