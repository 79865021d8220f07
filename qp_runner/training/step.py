"""One training step: one batch and all of the task's updates for it. `EagerStep` is the reference."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from qp_runner.compress import WeightBank
from qp_runner.tasks import Task

Precision = Literal["float32", "tf32", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
}


class Step(Protocol):
    """Trains on one batch; returns the sum of its losses, on the device. Must not wait for the device.

    Attributes:
        setup_seconds: the time spent on compiling and capturing so far; 0 for an eager step.
    """

    setup_seconds: float

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step."""


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
    ) -> None:
        self.task, self.optimizers, self.precision, self.device = task, optimizers, precision, device
        self.bank = bank
        self.setup_seconds = 0.0

    def __call__(self, batch: Any) -> Tensor:
        """Runs the step; each optimizer's gradients are cleared before its own backward pass."""
        total = torch.zeros((), device=self.device)
        updates: Iterator[tuple[str, Tensor]] = self.task.updates(batch)
        serving = self.bank.serving(DTYPES[self.precision]) if self.bank else contextlib.nullcontext()
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
            optimizer.step()
            total += loss.detach()


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context for forward passes in this precision."""
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
