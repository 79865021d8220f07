"""Taking back training steps: all that a step changes, copied and put back in place."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Snapshot:
    """Copies of parameters and buffers, of the optimizers' tensors that existed, and of the generators' states."""

    tensors: list[Tensor]
    optimizers: dict[int, Tensor]
    cpu: Tensor
    cuda: list[Tensor]


def snapshot(networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> Snapshot:
    """Copies everything that a step may change."""
    return Snapshot(
        tensors=[tensor.detach().clone() for tensor in _tensors(networks)],
        optimizers={id(tensor): tensor.clone() for tensor in _state(optimizers)},
        cpu=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    )


@torch.no_grad()
def restore(before: Snapshot, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> None:
    """Puts everything back, in place. Optimizer state that has come since is set to zero, which is how torch's
    optimizers begin (SGD's momentum too, without dampening); it stays allocated, as a captured step needs it.
    """
    for tensor, copy in zip(_tensors(networks), before.tensors, strict=True):
        tensor.copy_(copy)
    for tensor in _state(optimizers):
        if id(tensor) in before.optimizers:
            tensor.copy_(before.optimizers[id(tensor)])
        else:
            tensor.zero_()
    torch.set_rng_state(before.cpu)
    if before.cuda:
        torch.cuda.set_rng_state_all(before.cuda)


def _tensors(networks: Mapping[str, nn.Module]) -> list[Tensor]:
    return [tensor for network in networks.values() for tensor in (*network.parameters(), *network.buffers())]


def _state(optimizers: Mapping[str, Optimizer]) -> list[Tensor]:
    return [
        value
        for optimizer in optimizers.values()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
