"""What the two translation tasks share: losses of adversarial training and checks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.errors import ConfigError
from qp_runner.tasks.base import evaluating
from qp_runner.tasks.checks import described, fitting

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


def group(*networks: nn.Module) -> list[dict[str, Any]]:
    """All parameters of these networks as one parameter group."""
    return [{"params": [parameter for network in networks for parameter in network.parameters()]}]


def check_weight(name: str, value: float) -> None:
    """Raises ConfigError unless the weight of a loss is a number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigError(f"task.factory.{name}", value, "a number of at least 0")


def check_fit(networks: Mapping[str, nn.Module], inputs: Mapping[str, Tensor]) -> None:
    """Raises ConfigError if a network does not fit the data: generators have to return images of their input's size.

    Args:
        networks: by name; discriminators have `discriminator` in theirs, all others are generators.
        inputs: the input of each network, [1, c, h, w].
    """
    for name, network in networks.items():
        given = inputs[name]
        shape = "×".join(map(str, given.shape[1:]))
        with evaluating({name: network}):
            made = fitting(name, f"the data's images of {shape}", partial(network, given))
        wanted = "[1, 1, h, w]" if "discriminator" in name else str([1, 3, *given.shape[2:]])
        fits = isinstance(made, Tensor) and made.dim() == 4 and len(made) == 1
        if not fits or (made.shape[1] != 1 if "discriminator" in name else made.shape[1:] != (3, *given.shape[2:])):
            allowed = f"has to return {wanted} for images of {shape}; it returns {described(made)}"
            raise ConfigError("model", name, allowed)
