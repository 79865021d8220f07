"""Batches of a data set's items, read by other processes, in a given order."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from qp_runner.data.seeding import Seeded, generator
from qp_runner.errors import ConfigError

Place = tuple[int | str, ...]
"""A position in training, such as (seed, epoch); decides what is drawn at random."""


def load(items: Dataset[Any], index: Sequence[Tensor], *, workers: int, place: Place = ()) -> Iterator[Any]:
    """Batches of the items at these positions, collated as torch does it, on the CPU.

    What an item draws from torch's global generator depends on `place` and its position only, whichever process reads
    it; the generators of this process stay as they are. At most two batches a process are held at a time.

    Args:
        items: a data set with items by position. A ConfigError that one raises is raised here.
        index: the positions of each batch.
        workers: processes that read; 0 for none.
        place: in training.
    """
    if not index:
        return
    loader = DataLoader(
        _Items(items, place),
        batch_sampler=[each.tolist() for each in index],
        num_workers=min(workers, len(index) - 1),  # a single batch is read here: starting a process takes longer
        collate_fn=_collate,
        generator=generator("loader"),  # otherwise it draws from torch's global one
    )
    for batch in loader:
        if isinstance(batch, ConfigError):
            raise batch
        yield batch


def processes(asked: object, *, key: str = "data.workers") -> int:
    """How many processes read: `auto` leaves one processor to training, and takes 8 at most. Raises ConfigError."""
    if asked == "auto":
        return max(1, min(8, len(os.sched_getaffinity(0)) - 1)) if hasattr(os, "sched_getaffinity") else 1
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        raise ConfigError(key, asked, "auto, or a number of processes from 0")
    return asked


class _Items(Dataset[Any]):
    """Items by position, each with random numbers of its own; a ConfigError in place of an item that raised one, since
    a loader would raise an error of several arguments as another one.
    """

    def __init__(self, items: Dataset[Any], place: Place) -> None:
        self.items, self.place = items, place

    def __getitem__(self, position: int) -> Any:
        try:
            with Seeded(*self.place, "sample", position):
                return self.items[position]
        except ConfigError as error:
            return error


def _collate(items: list[Any]) -> Any:
    error = next((each for each in items if isinstance(each, ConfigError)), None)
    return default_collate(items) if error is None else error
