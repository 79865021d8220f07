"""An epoch in progress."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qp_runner.training.settings import TrainingDivergedError


@dataclass
class Epoch:
    """Its number, the sum of its losses so far on the device, when it began (less what a resumed one took before)."""

    number: int
    loss: Tensor
    began: float

    @classmethod
    def start(cls, number: int, *, device: torch.device, loss: Tensor | None = None, seconds: float = 0.0) -> "Epoch":
        """An epoch that begins now, or goes on with what `state` gave."""
        total = torch.zeros((), device=device) if loss is None else loss.to(device)
        return cls(number, total, time.perf_counter() - seconds)

    @property
    def seconds(self) -> float:
        """What it took so far."""
        return time.perf_counter() - self.began

    def state(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {"epoch": self.number, "loss": self.loss, "seconds": self.seconds}

    def checked(self, *, place: str) -> float:
        """The sum of the losses; waits for the device. Raises TrainingDivergedError if it is not finite."""
        value = self.loss.item()
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"the loss became {value} in epoch {self.number + 1}, by {place}: "
                "try a lower trainer.optimizer.lr, or later or gentler events"
            )
        return value
