"""Images at two resolutions: patches for training, whole images for evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from qp_runner.data.luminance import luminance
from qp_runner.data.rows import Rows, full_batches
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError

SCALES = (2, 3, 4)


class Patches(NamedTuple):
    """Luminance of patches, float32: `low` [n, 1, p, p], `high` [n, 1, p·scale, p·scale]."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Photograph:
    """One image at both resolutions.

    Attributes:
        name: of its file or motif.
        low, high: luminance, float32 [1, h, w] and [1, h·scale, w·scale].
        rgb, bicubic: the image, and its low resolution enlarged by bicubic interpolation: uint8
            [3, h·scale, w·scale], always on the CPU.
    """

    name: str
    low: Tensor
    high: Tensor
    rgb: Tensor
    bicubic: Tensor

    def to(self, device: torch.device) -> "Photograph":
        """The same image, luminance on a device."""
        return replace(self, low=self.low.to(device), high=self.high.to(device))


@dataclass(frozen=True, eq=False)
class SuperResolutionData:
    """Training patches and whole images, in memory on the training device.

    Args:
        train: all patches of all training images.
        val, test: whole images, of any sizes.
        scale: the factor by which height and width grow.
    """

    train: Patches
    val: tuple[Photograph, ...]
    test: tuple[Photograph, ...]
    scale: int

    def to(self, device: torch.device) -> "SuperResolutionData":
        """The same data on a device, moved once."""
        train = Patches(self.train.low.to(device), self.train.high.to(device))
        val, test = (tuple(image.to(device) for image in images) for images in (self.val, self.test))
        return replace(self, train=train, val=val, test=test)

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Patches]:
        """Shuffled batches of patches, which depend on (seed, epoch) only; an incomplete last one is dropped."""
        yield from map(self.make, self.rows(epoch, batch_size=batch_size, seed=seed))

    def rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Rows]:
        """The same batches before `make`."""
        order = torch.randperm(len(self.train.low), generator=generator(seed, "order", epoch))
        return full_batches([order], batch_size=batch_size, device=self.train.low.device)

    def make(self, rows: Rows) -> Patches:
        """A training batch."""
        return self._take(rows.positions)

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[Patches]:
        """Training patches, always the same for a seed (all of them if there are fewer)."""
        order = torch.randperm(len(self.train.low), generator=generator(seed, "calibration"))[:samples]
        for index in order.to(self.train.low.device).split(batch_size):
            yield self._take(index)

    def _take(self, index: Tensor) -> Patches:
        return Patches(self.train.low[index], self.train.high[index])


def at_two_resolutions(name: str, rgb: Tensor, *, scale: int) -> Photograph:
    """An image uint8 [3, h, w] and its low resolution, by Pillow's bicubic filter (with antialiasing).

    The image is first cropped at its right and lower edge to a multiple of the scale.
    """
    height, width = (size // scale for size in rgb.shape[1:])
    rgb = rgb[:, : height * scale, : width * scale].contiguous()
    small = to_pil_image(rgb).resize((width, height), Image.Resampling.BICUBIC)
    large = small.resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return Photograph(name, luminance(pil_to_tensor(small)), luminance(rgb), rgb, pil_to_tensor(large))


def patches(images: Sequence[Photograph], *, scale: int, size: int, stride: int) -> Patches:
    """The patches of whole images: `size` low-resolution pixels a side, at every `stride`-th low-resolution pixel.

    An image of h × w low-resolution pixels gives (1 + ⌊(h − size)/stride⌋) · (1 + ⌊(w − size)/stride⌋) patches; the
    rest at its right and lower edge is not used. Images are downsampled before they are cut, so the filter sees pixels
    beyond a patch's edge.
    """
    low = torch.cat([_cut(image.low, size, stride) for image in images])
    high = torch.cat([_cut(image.high, size * scale, stride * scale) for image in images])
    return Patches(low, high)


def _cut(image: Tensor, size: int, stride: int) -> Tensor:
    """[1, h, w] → [n, 1, size, size]."""
    windows = image[0].unfold(0, size, stride).unfold(1, size, stride)
    return windows.reshape(-1, 1, size, size)


def check_patches(*, scale: int, patch: int, stride: int) -> None:
    """Raises ConfigError for an impossible scale, patch size or stride."""
    if scale not in SCALES:
        raise ConfigError("data.scale", scale, f"one of {', '.join(map(str, SCALES))}")
    if not isinstance(stride, int) or stride < 1:
        raise ConfigError("data.stride", stride, "at least 1 low-resolution pixel")
    if not isinstance(patch, int) or patch < 8:
        raise ConfigError("data.patch", patch, "at least 8 low-resolution pixels")
