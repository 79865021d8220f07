"""One training step: one batch and all of the task's updates for it. `EagerStep` is the reference."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from qp_runner.compress import WeightBank
from qp_runner.errors import ConfigError
from qp_runner.tasks import Task
from qp_runner.training.held_tensors import parameters_of

Precision = Literal["float32", "tf32", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
}


class Step(Protocol):
    """Trains on one batch, or on the rows that it is made of (see `Task.make`); returns the sum of its losses, on the
    device. Must not wait for the device.

    Attributes:
        setup_seconds: the time spent on compiling and capturing so far; 0 for an eager step.
    """

    @property
    def setup_seconds(self) -> float:
        """See the class."""

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step."""


@dataclass(frozen=True)
class StepOptions:
    """How gradients are made and used.

    Attributes:
        grad_clip: the largest norm of an optimizer's gradients, to which larger ones are scaled; None for no limit.
        accumulate: equal parts in which a batch passes the networks; their mean gradient is used, and it takes the
            memory of one part. Batch norms see each part by itself.
    """

    grad_clip: float | None = None
    accumulate: int = 1


PLAIN = StepOptions()


class EagerStep:
    """Runs a step operation by operation.

    Args:
        optimizers: by the names that the task's updates use.
        precision: `bfloat16` runs the forward passes under autocast; masks, scales and codes stay float32.
        bank: computes all weight sites at once for the first update; with None each site computes its own.
    """

    def __init__(
        self,
        task: Task,
        optimizers: Mapping[str, Optimizer],
        *,
        precision: Precision,
        device: torch.device,
        bank: WeightBank | None = None,
        options: StepOptions = PLAIN,
    ) -> None:
        self.options = options
        self.task, self.optimizers, self.precision, self.device = task, optimizers, precision, device
        self.bank = bank
        self.setup_seconds = 0.0

    def __call__(self, batch: Any) -> Tensor:
        """Makes the batch of what is given (see `Task.make`) and runs the step; each optimizer's gradients are cleared
        before its own backward pass.
        """
        batch = self.task.make(batch)
        if self.options.accumulate > 1:
            return self._in_parts(batch)
        total = torch.zeros((), device=self.device)
        updates: Iterator[tuple[str, Tensor]] = self.task.updates(batch)
        serving = self._serving()
        while True:
            with autocast(self.precision, self.device), serving:
                update = next(updates, None)
            serving = contextlib.nullcontext()  # by later updates, optimizers have changed the weights
            if update is None:
                return total
            name, loss = update
            optimizer = self.optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._advance(optimizer)
            total += loss.detach()

    def _in_parts(self, batch: Any) -> Tensor:
        """A step whose batch passes in parts. Raises ConfigError for a task with several updates in a step."""
        total, count = torch.zeros((), device=self.device), self.options.accumulate
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for part in parts(batch, count):
            updates: Iterator[tuple[str, Tensor]] = self.task.updates(part)
            with autocast(self.precision, self.device), self._serving():
                name, loss = next(updates)
            (loss / count).backward()
            total += loss.detach() / count
            if next(updates, None) is not None:
                raise ConfigError("trainer.accumulate", count, "1: this task makes several updates in a step")
        self._advance(self.optimizers[name])
        return total

    def _serving(self) -> contextlib.AbstractContextManager[None]:
        return self.bank.serving(DTYPES[self.precision]) if self.bank else contextlib.nullcontext()

    def _advance(self, optimizer: Optimizer) -> None:
        if self.options.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), self.options.grad_clip)
        optimizer.step()


def parts(batch: Any, count: int) -> Iterator[Any]:
    """A batch in equal parts. Raises ConfigError if it can't be cut."""
    sizes = {len(each) if isinstance(each, Tensor) and each.dim() else 0 for each in tree_leaves(batch)}
    if len(sizes) != 1 or (size := sizes.pop()) == 0 or size % count:
        raise ConfigError("trainer.accumulate", count, "a divisor of the batch, for a task whose batches are tensors")
    for start in range(0, size, size // count):
        yield tree_map(lambda each: each[start : start + size // count], batch)  # noqa: B023 - used at once


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context for forward passes in this precision."""
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
