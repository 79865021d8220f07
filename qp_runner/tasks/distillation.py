"""Learning from the outputs of a teacher: Hinton, Vinyals and Dean, arXiv 1503.02531."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Distillation:
    """A frozen network whose class probabilities a student learns.

    Args:
        network: the teacher; it is put into evaluation mode and frozen.
        temperature: by which the logits of both are divided.
        weight: of the teacher's part of the loss, in [0, 1]; the task's own loss has the rest.
    """

    def __init__(self, network: nn.Module, *, temperature: float, weight: float) -> None:
        self.network = network.eval().requires_grad_(False)
        self.temperature, self.weight = temperature, weight

    def to(self, device: torch.device) -> None:
        """Moves the teacher."""
        self.network.to(device)

    def __call__(self, own: Tensor, logits: Tensor, run: Callable[[nn.Module], Tensor]) -> Tensor:
        """The loss: `(1 − weight) · own + weight · T² · KL(softmax(teacher / T) ‖ softmax(logits / T))`.

        Args:
            own: the task's own loss, 0-dim.
            logits: the student's [n, classes, ...].
            run: gives a network's logits for the same batch.
        """
        with torch.no_grad():
            taught = F.log_softmax(run(self.network).float() / self.temperature, dim=1)
        learned = F.log_softmax(logits.float() / self.temperature, dim=1)
        apart = F.kl_div(learned, taught, reduction="none", log_target=True).sum(1).mean()
        return (1 - self.weight) * own + self.weight * self.temperature**2 * apart
