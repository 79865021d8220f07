"""Batches before they are made."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Rows(NamedTuple):
    """What a batch is made of: for each sample a row of whole numbers, [n, k] (int64), on the data's device.

    The first is the sample's position, the others are what was drawn for it, such as the edges of a crop. A training
    step makes its batch of them, so a captured step needs no other launch.
    """

    numbers: Tensor

    @property
    def positions(self) -> Tensor:
        """The samples' positions [n]."""
        return self.numbers[:, 0]

    @property
    def draws(self) -> Tensor:
        """The other numbers [n, k − 1]."""
        return self.numbers[:, 1:]


@runtime_checkable
class HasRows(Protocol):
    """Data whose training batches can be made in a step."""

    def rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Any]:
        """An epoch's batches as `Rows`; those that can't be made in a step are made already."""

    def make(self, rows: Rows) -> Any:
        """The batch, from what lies on the device; draws nothing and does not wait for the device."""


def full_batches(columns: list[Tensor], *, batch_size: int, device: torch.device) -> Iterator[Rows]:
    """The rows of an epoch, moved to the device once, by batches; an incomplete last one is dropped.

    `columns` [samples] or [samples, k] stand side by side, on the CPU.
    """
    numbers = torch.cat([each.view(len(each), -1) for each in columns], dim=1).to(device)
    yield from map(Rows, numbers[: len(numbers) // batch_size * batch_size].split(batch_size))
