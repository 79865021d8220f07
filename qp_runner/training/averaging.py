"""A running average of the weights, on which a run is measured: Polyak and Juditsky 1992, in its exponential form."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential averages of parameters and real buffers, such as those of batch norms.

    The sites of a compressed network work on whatever weights are in it, so masks and scales apply to the averages too.
    The decay of a step is `min(decay, (1 + step) / (10 + step))`: otherwise the average would hold on to the initial
    weights for long.

    Args:
        networks: by name.
        decay: what the average keeps of itself in a step, between 0 and 1.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay, self._networks = decay, dict(networks)
        self._averages = [tensor.detach().clone() for tensor in self._live()]

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Takes in the weights after a step, without waiting for the device."""
        share = 1 - min(self.decay, (1 + steps_done) / (10 + steps_done))
        for dtype in {each.dtype for each in self._averages}:
            pairs = [pair for pair in zip(self._averages, self._live(), strict=True) if pair[0].dtype == dtype]
            averages, live = (list(each) for each in zip(*pairs, strict=True))
            torch._foreach_lerp_(averages, live, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the networks have the averages in place of their own weights."""
        with torch.no_grad():
            own = [tensor.detach().clone() for tensor in self._live()]
            self.keep()
        try:
            yield
        finally:
            self._write(own)

    def keep(self) -> None:
        """Gives the averages to the networks for good."""
        self._write(self._averages)

    def state_dict(self) -> list[Tensor]:
        """The averages."""
        return self._averages

    def load_state_dict(self, averages: list[Tensor]) -> None:
        """Restores what `state_dict` gave."""
        for own, given in zip(self._averages, averages, strict=True):
            own.copy_(given)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self._live(), values, strict=True):
            tensor.copy_(value)

    def _live(self) -> list[Any]:
        """The tensors that are averaged; looked up each time, as a network may replace a buffer."""
        networks = self._networks.values()
        buffers = [each for network in networks for each in network.buffers() if each.is_floating_point()]
        return [*(each.detach() for network in networks for each in network.parameters()), *buffers]
