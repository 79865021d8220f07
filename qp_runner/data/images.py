"""Image sets that live in memory as uint8, and the batches drawn from them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Split = Literal["train", "val", "test"]


class Batch(NamedTuple):
    """Normalised images [n, c, h, w] (float32) and their labels [n] (int64), on the set's device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images [n, c, h, w] (uint8) and labels [n] (int64)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ImageSet":
        """The same set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> "ImageSet":
        """The samples at these positions, in this order."""
        return ImageSet(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images: a crop after zero padding by `pad` pixels, a horizontal flip."""

    pad: int = 0
    flip: bool = False

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augments normalised images [n, c, h, w], each on its own; the generator lives on the CPU."""
        if self.flip:
            flipped = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.pad:
            shifts = torch.randint(2 * self.pad + 1, (2, len(images)), generator=generator).to(images.device)
            images = _crop(F.pad(images, [self.pad] * 4), shifts, images.shape[-2:])
        return images


@dataclass(frozen=True)
class ImageData:
    """A classification set: three splits, class names, per-channel mean and standard deviation in [0, 1] units."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = Augmentation()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device, moved once."""
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def normalise(self, samples: ImageSet) -> Batch:
        """Samples as a batch: images scaled to [0, 1], then by mean and standard deviation."""
        device = samples.images.device
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return Batch((samples.images.float() / 255 - mean) / std, samples.labels)

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Shuffled, augmented training batches; an incomplete last one is left out.

        Order and augmentation are functions of (seed, epoch, batch) alone: any epoch can be repeated by itself, and
        the global generators are never drawn from.
        """
        device = self.train.images.device
        order = torch.randperm(len(self.train), generator=_generator(seed, epoch)).to(device)
        for number in range(len(self.train) // batch_size):
            index = order[number * batch_size : (number + 1) * batch_size]
            images, labels = self.normalise(self.train.take(index))
            yield Batch(self.augmentation.apply(images, _generator(seed, epoch, number)), labels)

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """Unaugmented training samples, always the same ones for a seed (all of them where there are fewer)."""
        order = torch.randperm(len(self.train), generator=_generator(seed))[:samples]
        for index in order.to(self.train.images.device).split(batch_size):
            yield self.normalise(self.train.take(index))

    def evaluation(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """A split in its own order, whole."""
        chosen: ImageSet = getattr(self, split)
        for index in torch.arange(len(chosen), device=chosen.images.device).split(batch_size):
            yield self.normalise(chosen.take(index))


def _generator(seed: int, *place: int) -> torch.Generator:
    """A CPU generator for one place in training. Multiplying by odd constants keeps the places apart."""
    state = seed
    for number in place:
        state = (state * 6364136223846793005 + 2 * number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(state)


def _crop(padded: Tensor, shifts: Tensor, size: torch.Size) -> Tensor:
    """Cuts a window of `size` from each padded image; `shifts` [2, n] are its upper left corners."""
    n, channels = padded.shape[:2]
    height, width = size
    device = padded.device
    rows = (shifts[0].view(-1, 1) + torch.arange(height, device=device)).view(n, 1, height, 1)
    columns = (shifts[1].view(-1, 1) + torch.arange(width, device=device)).view(n, 1, 1, width)
    picture = torch.arange(n, device=device).view(n, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, channels, 1, 1)
    return padded[picture, channel, rows, columns]
