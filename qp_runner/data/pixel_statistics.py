"""Mean and standard deviation of the pixels of training pictures."""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from qp_runner.data.many_files import Status, side_by_side
from qp_runner.data.picture_sources import KEY, PictureFiles, Pictures, statuses
from qp_runner.data.pictures import Preparation, read_picture
from qp_runner.data.splits import held_out

MEASURED = 2000  # pictures that are looked at


def measured(train: Pictures, prepare: Preparation) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel [c], where black is 0 and white 1; of `MEASURED` pictures at most, always
    the same. Files that are as they were when this process last measured them are not read again.
    """
    count = min(MEASURED, len(train.labels))
    chosen = train.take(held_out(len(train.labels), count)[1])
    if isinstance(chosen, PictureFiles):
        sums = _sums_of_files(chosen.paths, statuses(chosen), prepare)
    else:
        sums = _sums(lambda index: chosen.read(index, prepare), count)
    mean, square = sums.double() / (count * math.prod(prepare.shape[1:])) / torch.tensor([[255.0], [255.0**2]])
    return mean.float(), (square - mean * mean).clamp(min=1e-8).sqrt().float()


@lru_cache(maxsize=8)
def _sums_of_files(paths: tuple[str, ...], _statuses: tuple[Status, ...], prepare: Preparation) -> Tensor:
    return _sums(lambda index: read_picture(Path(paths[index]), prepare, key=KEY), len(paths))


def _sums(read: Callable[[int], Tensor], count: int) -> Tensor:
    """Sums of pixels and of their squares by channel, int64 [2, c]: whole numbers, so the same in any order."""
    levels = torch.arange(256)

    def of_one(index: int) -> Tensor:
        counts = torch.stack([torch.bincount(channel, minlength=256) for channel in read(index).flatten(1)])
        return torch.stack([counts @ levels, counts @ levels**2])

    return torch.stack(side_by_side(of_one, count, what="mean and standard deviation")).sum(0)
