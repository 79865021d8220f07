"""A pool of earlier generated images for training discriminators (Shrivastava et al. 2017, section 2.3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from qp_runner.data import Rows
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError

PASS, FILL, SWAP = 0, 1, 2


class UnpairedBatch(NamedTuple):
    """Images of both domains, and the pools' draws for the images generated from them (see `ImagePool.draws`)."""

    a: Tensor
    b: Tensor
    pool_a: Tensor
    pool_b: Tensor


class UnpairedRows(NamedTuple):
    """The same before the images are taken."""

    rows: Rows
    pool_a: Tensor
    pool_b: Tensor


class ImagePool:
    """The first `capacity` images fill the pool and are returned unchanged. A later one is returned unchanged or, with
    probability ½, replaces a random older image, which is returned instead.

    The draws are made in advance, on the host, so that an exchange never waits for the device. They depend on seed and
    epoch only, so the images are the whole state.

    Args:
        name: separates this pool's draws from another's.
        capacity: images; 0 returns every image unchanged.
        size: height and width of the images.
        seed: of the run.
    """

    def __init__(self, name: str, *, capacity: int, size: int, seed: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0:
            raise ConfigError("task.factory.pool", capacity, "a whole number of at least 0")
        self.name, self.capacity, self.seed = name, capacity, seed
        self.images = torch.zeros(capacity, 3, size, size)

    def draws(self, epoch: int, *, samples: int) -> Tensor:
        """The draws for an epoch's images: [samples, 2] (int64), an index into the pool and PASS, FILL or SWAP."""
        if self.capacity == 0:
            return torch.zeros(samples, 2, dtype=torch.int64)
        random = generator(self.seed, "pool", self.name, epoch)
        places = torch.randint(self.capacity, (samples,), generator=random)
        actions = torch.randint(2, (samples,), generator=random) * SWAP
        number = torch.arange(epoch * samples, (epoch + 1) * samples)  # of the image, counted over all of training
        filling = number < self.capacity
        return torch.stack([torch.where(filling, number, places), torch.where(filling, FILL, actions)], dim=1)

    def exchange(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images [n, 3, size, size] → images to learn from, same shape (float32), one after the other."""
        images = images.float()
        if self.capacity == 0:
            return images
        handed_on = []
        for image, place, action in zip(images.split(1), draws[:, :1], draws[:, 1], strict=True):
            old = self.images.index_select(0, place)
            handed_on.append(torch.where(action == SWAP, old, image))
            self.images.index_copy_(0, place, torch.where(action == PASS, old, image))
        return torch.cat(handed_on)

    def to(self, device: torch.device) -> None:
        """Moves the images."""
        self.images = self.images.to(device)
