"""Random crops and flips of training images, drawn on the CPU and applied in batches on the images' device."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """A random crop after padding every side with `pad` black pixels, and a horizontal flip with probability ½.

    `spare` is by how many pixels height and width of an image are larger than those of the crop.
    """

    pad: int = 0
    flip: bool = False
    spare: int = 0

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draws for images, [samples, 3] (int64): upper and left edge of the crop, 1 where flipped."""
        edges = torch.randint(2 * self.pad + self.spare + 1, (samples, 2), generator=generator)
        flips = torch.randint(1 + self.flip, (samples, 1), generator=generator)
        return torch.cat([edges, flips], dim=1)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images [n, c, h, w] of any type, changed according to the rows of `draws`; of the same type."""
        if not (self.pad or self.flip or self.spare):
            return images
        height, width = (size - self.spare for size in images.shape[-2:])
        return crop(F.pad(images, [self.pad] * 4), draws, height=height, width=width)


@dataclass(frozen=True)
class RandomCrop:
    """A random square of `size` pixels from each image, and a horizontal flip with probability ½."""

    size: int
    flip: bool = False

    def draw(self, samples: int, generator: torch.Generator, *, height: int, width: int) -> Tensor:
        """Draws for images of a height and width, as `crop` takes them."""
        top = torch.randint(height - self.size + 1, (samples, 1), generator=generator)
        left = torch.randint(width - self.size + 1, (samples, 1), generator=generator)
        flips = torch.randint(1 + self.flip, (samples, 1), generator=generator)
        return torch.cat([top, left, flips], dim=1)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images [n, c, h, w] of any type → [n, c, size, size]."""
        return crop(images, draws, height=self.size, width=self.size)


def crop(images: Tensor, draws: Tensor, *, height: int, width: int) -> Tensor:
    """A part of each image [n, c, h, w] → [n, c, height, width], without waiting for the device.

    `draws` [n, 3] (int64) has a row for each image: upper and left edge of its part, 1 where it is flipped.
    """
    n, channels = images.shape[:2]
    top, left, flipped = draws.view(n, 3, 1).unbind(1)  # [n, 1] each
    rows = top + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device)
    columns = left + torch.where(flipped == 1, across.flip(0), across)
    pixels = rows.unsqueeze(2) * images.shape[-1] + columns.unsqueeze(1)  # [n, height, width]: positions in a plane
    index = pixels.view(n, 1, height * width).expand(n, channels, height * width)
    return images.flatten(2).gather(2, index).view(n, channels, height, width)
