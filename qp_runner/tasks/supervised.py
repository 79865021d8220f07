"""Any network that learns targets from examples: loss, metrics and objective are configuration."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qp_runner.data import ImageData
from qp_runner.data.items import Items, as_items, targets
from qp_runner.errors import ConfigError
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.fields import Fields, Key, Pair
from qp_runner.tasks.networks import build_networks
from qp_runner.tasks.objectives import class_weights_of, misfit, name_of, number, objective_of, weigh

NETWORK = "network"


class SupervisedTask(Task):
    """One network, one loss, any metrics.

    Args:
        data: `ImageData`, `Items`, or the data sets `train`, `val` and `test` as a mapping or a tuple.
        networks: `network` builds it; `classes` and `in_channels` are handed over where data and factory have them.
        batch_size: training samples per step.
        seed: decides initial weights, data order, augmentation and calibration samples.
        loss: of output and target; 0-dim.
        metrics: torchmetrics' by name; updated with output and target. `loss` is measured too.
        objective: the metric that counts: one of `metrics`, or `loss`.
        direction: `up` or `down`; None for what torchmetrics says of the objective.
        unit: of the objective. With `%` it is multiplied by 100.
        class_weights: of the loss: numbers, or `balanced` (n / (classes · n of the class)); None for none.
        inputs, target, output: see `Fields`.
        eval_batch_size: samples per batch in evaluation.
        fixed_shapes: whether all training batches have the same shapes.

    Raises:
        ConfigError: what does not fit together.
    """

    teachable = True

    def __init__(
        self,
        *,
        data: Any,
        networks: Mapping[str, Callable[..., nn.Module]],
        batch_size: int,
        seed: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        metrics: Mapping[str, Any],
        objective: str,
        direction: Literal["up", "down"] | None = None,
        unit: str = "",
        class_weights: Literal["balanced"] | Sequence[float] | None = None,
        inputs: Sequence[Key] | Mapping[str, Key] | None = None,
        target: Key | None = None,
        output: Key | None = None,
        eval_batch_size: int = 64,
        fixed_shapes: bool = True,
    ) -> None:
        data = data if isinstance(data, ImageData) else as_items(data)
        self.fields = Fields(inputs, target, output)
        self.fixed_shapes, self.eval_batch_size = fixed_shapes, eval_batch_size
        self.metrics = {name: each for name, each in metrics.items() if each is not None}
        self.metric = objective_of(self.metrics, objective, direction, unit)
        self.loss = loss
        if class_weights is not None:
            weigh(loss, class_weights_of(class_weights, len(data.classes), self._targets(data)))
        self.network_arguments = _arguments(data, self.fields.pair(data.sample()))
        built = build_networks(networks, {NETWORK: self.network_arguments}, task="supervised", seed=seed)
        super().__init__(data=data, samples=len(data.train), networks=built, batch_size=batch_size, seed=seed)
        self.network = built[NETWORK]
        self._check()

    def _targets(self, data: ImageData | Items) -> Tensor:
        """The targets of all training samples, flattened, on the CPU."""
        if isinstance(data, ImageData):
            return data.train.labels
        return targets(data.train, lambda each: self.fields.pair(each).target)

    def _check(self) -> None:
        """Raises ConfigError unless network, loss and metrics fit the data."""
        pair = self.sample()
        try:
            with evaluating(self.networks()):
                made = self.fields.outcome(self.network, pair.inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise error if isinstance(error, ConfigError) else misfit("model", self.network, error) from error
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Using a target size")  # compares each output with all targets
                loss = self._own_loss(made, pair.target)
        except (RuntimeError, ValueError, TypeError, IndexError, UserWarning) as error:
            raise misfit("task.factory.loss", self.loss, error) from error
        if not isinstance(loss, Tensor) or loss.dim():
            raise ConfigError("task.factory.loss", name_of(self.loss), "has to return a number")
        for name, each in self.metrics.items():
            try:
                copy.deepcopy(each).update(*_aligned(made, pair.target))
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise misfit(f"task.factory.metrics.{name}", each, error) from error

    def updates(self, batch: Pair) -> Iterator[tuple[str, Tensor]]:
        """One update."""
        made = self.fields.outcome(self.network, batch.inputs)
        loss = self._own_loss(made, batch.target)
        if self.teacher is not None:
            loss = self.teacher(loss, made, lambda network: self.fields.outcome(network, batch.inputs))
        yield NETWORK, loss

    def _own_loss(self, made: Tensor, target: Tensor) -> Tensor:
        return self.loss(*_aligned(made, target))

    def make(self, rows: Any) -> Pair:
        """The training batch."""
        return rows if isinstance(rows, Pair) else self.fields.pair(super().make(rows))

    def calibration_batches(self, *, samples: int, batch_size: int) -> Iterator[Pair]:
        """Batches of training samples."""
        yield from map(self.fields.pair, super().calibration_batches(samples=samples, batch_size=batch_size))

    def infer(self, batch: Pair) -> None:
        """A forward pass."""
        self.fields.outcome(self.network, batch.inputs)

    def sample(self) -> Pair:
        """The first training sample."""
        return self.fields.pair(self.data.sample())

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """All metrics, and the mean loss."""
        metrics = copy.deepcopy(self.metrics)
        losses, count = torch.zeros((), device=self._device()), 0
        with evaluating(self.networks()):
            for batch in self.data.evaluation(split, batch_size=self.eval_batch_size):
                pair = self.fields.pair(batch)
                made = self.fields.outcome(self.network, pair.inputs).float()
                losses += self._own_loss(made, pair.target).detach() * len(made)
                count += len(made)
                for each in metrics.values():
                    each.update(*_aligned(made, pair.target))
        found = {name: number(name, each.compute()) for name, each in metrics.items()} | {"loss": losses.item() / count}
        if self.metric.unit == "%":
            found[self.metric.name] *= 100
        return found

    def to(self, device: torch.device) -> None:
        """Moves networks, data, metrics and the loss."""
        super().to(device)
        for each in (self.loss, *self.metrics.values()):
            if isinstance(each, nn.Module):
                each.to(device)

    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _aligned(made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Output [n, 1] and real targets [n] as two of [n]: a loss would otherwise compare each with all."""
    one = made.dim() == target.dim() + 1 and made.shape[1] == 1 and target.is_floating_point()
    return (made.squeeze(1) if one else made), target


def _arguments(data: ImageData | Items, pair: Pair) -> dict[str, int]:
    """What is handed to the network's factory."""
    found = {"classes": len(data.classes)} if data.classes else {}
    first = next(iter(pair.inputs.values() if isinstance(pair.inputs, dict) else pair.inputs))
    if isinstance(first, Tensor) and first.is_floating_point() and first.dim() > 1:
        found["in_channels"] = first.shape[1]
    return found
