"""How a run is trained, and how training fails."""

from dataclasses import dataclass, field

import torch

from qp_runner.training.executors import Kind
from qp_runner.training.step import Precision


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is trained; `calibration_samples` choose masks and scales when an event fires. Validation data is
    measured after every `evaluate_every` epochs and after the last one.
    """

    epochs: int
    evaluate_every: int = 1
    calibration_samples: int = 256
    calibration_batch_size: int = 64
    precision: Precision = "float32"
    executor: Kind = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
