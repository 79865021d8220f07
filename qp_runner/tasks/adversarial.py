"""What the two translation tasks share: the losses of adversarial training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.errors import ConfigError

JUDGEMENT = (1, 1, -1, -1)  # the shape of a discriminator's output for one image: a logit for each patch
PICTURES = 4


def cross_entropy(logits: Tensor, *, real: bool) -> Tensor:
    """The loss of a discriminator's logits for real images, or for generated ones (Goodfellow et al. 2014)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def least_squares(logits: Tensor, *, real: bool) -> Tensor:
    """The same as the squared error to 1 or 0 (LSGAN, Mao et al. 2017)."""
    return F.mse_loss(logits, torch.full_like(logits, float(real)))


@contextmanager
def frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, a loss gives these networks' parameters no gradients, but their inputs get theirs."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def check_weight(name: str, value: float) -> None:
    """Raises ConfigError unless the weight of a loss is a number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigError(f"task.factory.{name}", value, "a number of at least 0")
