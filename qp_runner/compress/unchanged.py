"""Whether networks return what they did before sites were attached to them."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.arguments import tensors_returned
from qp_runner.compress.isolation import undisturbed
from qp_runner.compress.survey import Run


def outputs(networks: Iterable[nn.Module], run: Run) -> list[Tensor]:
    """Copies of all tensors that networks return in `run`, which changes nothing about them."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        found.extend(each.detach().clone() for each in tensors_returned(output))

    networks = list(networks)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(networks))
        for network in networks:
            stack.callback(network.register_forward_hook(keep).remove)
        run()
    return found


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether these are the same values, up to 0.1 % of the largest: a GPU may add in another order each time."""
    return len(one) == len(other) and all(a.shape == b.shape and _close(a, b) for a, b in zip(one, other, strict=True))


def _close(one: Tensor, other: Tensor) -> bool:
    one, other = (each.cpu().to(torch.complex128).nan_to_num() for each in (one, other))  # holds numbers of any type
    largest = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=1e-3 * largest)
