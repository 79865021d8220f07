"""What a configured loss and configured metrics have to be."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.errors import ConfigError
from qp_runner.metric import Metric

DIRECTIONS = {"up": True, "down": False}


def objective_of(metrics: Mapping[str, Any], name: str, direction: object, unit: str) -> Metric:
    """The metric that counts. Raises ConfigError for an unknown one, or a direction that it does not have."""
    for each, made in metrics.items():
        if each == "loss" or not all(hasattr(made, method) for method in ("update", "compute")):
            raise ConfigError(f"task.factory.metrics.{each}", name_of(made), "a class of torchmetrics, not called loss")
    if name != "loss" and name not in metrics:
        raise ConfigError("task.factory.objective", name, f"one of {', '.join([*metrics, 'loss'])}")
    known = False if name == "loss" else getattr(metrics[name], "higher_is_better", None)
    if direction is None and known is None:
        raise ConfigError("task.factory.direction", direction, f"up or down: torchmetrics does not say it of {name}")
    if direction is not None and (direction not in DIRECTIONS or known not in (None, DIRECTIONS[str(direction)])):
        better = {True: "up", False: "down", None: "up or down"}[known]
        raise ConfigError("task.factory.direction", direction, f"{better}, for {name}")
    return Metric(name, bool(known) if direction is None else DIRECTIONS[str(direction)], unit)


def class_weights_of(asked: object, classes: int, labels: Tensor) -> Tensor:
    """The weight of each class [classes] (see `SupervisedTask`), from the training targets. Raises ConfigError."""
    if asked == "balanced":
        if labels.is_floating_point() or not classes:
            raise ConfigError("task.factory.class_weights", asked, "null, or numbers: the data have no classes")
        counts = torch.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)
        return (counts.sum() / (classes * counts.clamp(min=1))).float()
    if not isinstance(asked, list | tuple) or (classes and len(asked) != classes):
        raise ConfigError("task.factory.class_weights", asked, f"balanced, null, or {classes or 'some'} numbers")
    return torch.tensor([float(each) for each in asked])


def weigh(loss: object, weights: Tensor) -> None:
    """Gives weights to a loss. Raises ConfigError for one that takes none."""
    if not isinstance(loss, nn.Module) or "weight" not in loss._buffers:
        raise ConfigError("task.factory.class_weights", weights.tolist(), f"null: {name_of(loss)} takes no weights")
    loss.weight = weights


def number(name: str, value: Any) -> float:
    """A metric's value. Raises ConfigError for several."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ConfigError(f"task.factory.metrics.{name}", tuple(value.shape), "a metric that is one number")
    return float(value)


def name_of(made: object) -> str:
    """What an object is called in errors."""
    return getattr(made, "__name__", type(made).__name__)


def misfit(key: str, made: object, error: Exception) -> ConfigError:
    """The error for something that fails on the first sample."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ConfigError(key, name_of(made), f"does not fit the data: {reason}")
