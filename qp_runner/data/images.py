"""Image sets in memory as uint8, on the training device, and the batches drawn from them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.preprocessing import ImagePreprocessing
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError

Split = Literal["train", "val", "test"]


class Batch(NamedTuple):
    """Normalised images [n, c, h, w] (float32) and their labels [n] (int64), on the set's device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images [n, c, h, w] (uint8) and labels [n] (int64)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ImageSet":
        """The same set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor | slice) -> "ImageSet":
        """The samples at these positions, in this order."""
        return ImageSet(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification set.

    Args:
        train, val, test: the splits, all with images of one shape.
        classes: their names; labels are positions in it.
        mean, std: of the training pixels by channel [c], where black is 0 and white 1.
        augmentation: of training images.

    Raises:
        ConfigError: splits that are empty, of wrong types or shapes, or with labels without a class.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            problem = _problem(getattr(self, name), shape=self.train.images.shape[1:], classes=len(self.classes))
            if problem:
                raise ConfigError("data", f"{name} split", problem)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device, moved once."""
        moved = {name: getattr(self, name).to(device) for name in ("train", "val", "test", "mean", "std")}
        return replace(self, **moved)

    def preprocessing(self) -> ImagePreprocessing:
        """What `normalise` does, for images from anywhere."""
        channels, *size = self.shape
        return ImagePreprocessing(channels, (size[0], size[1]), tuple(self.mean.tolist()), tuple(self.std.tolist()))

    def with_preprocessing(self, preprocessing: ImagePreprocessing) -> "ImageData":
        """The same images, normalised as another set's were. Raises ConfigError for images of another shape."""
        wanted = (preprocessing.channels, *preprocessing.size)
        if self.shape != wanted:
            raise ConfigError("data", "images", f"of shape {[*wanted]}, as in training; these are {[*self.shape]}")
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        return replace(self, mean=mean.to(self.mean.device), std=std.to(self.std.device))

    def normalise(self, samples: ImageSet) -> Batch:
        """Samples as a batch, normalised by mean and standard deviation."""
        mean, std = self.mean.view(1, -1, 1, 1), self.std.view(1, -1, 1, 1)
        return Batch((samples.images.float() / 255 - mean) / std, samples.labels)

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Shuffled, augmented training batches; an incomplete last one is dropped, so that shapes never change.

        They depend on (seed, epoch) only, so any epoch can be repeated, and the global generators are not used. All of
        an epoch's draws are moved to the device before its first batch; batches then need nothing from the host.
        """
        device = self.train.images.device
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch)).to(device)
        draws = self.augmentation.draw(len(self.train), generator(seed, "augmentation", epoch)).to(device)
        for number in range(len(self.train) // batch_size):
            place = slice(number * batch_size, (number + 1) * batch_size)
            samples = self.train.take(order[place])
            yield self.normalise(replace(samples, images=self.augmentation.apply(samples.images, draws[place])))

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """Unaugmented training samples, always the same for a seed (all of them if there are fewer)."""
        order = torch.randperm(len(self.train), generator=generator(seed, "calibration"))[:samples]
        for index in order.to(self.train.images.device).split(batch_size):
            yield self.normalise(self.train.take(index))

    def evaluation(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """A complete split in order."""
        chosen: ImageSet = getattr(self, split)
        for start in range(0, len(chosen), batch_size):
            yield self.normalise(chosen.take(slice(start, start + batch_size)))


def _problem(samples: ImageSet, *, shape: torch.Size, classes: int) -> str | None:
    """What is wrong with a split, if anything."""
    images, labels = samples.images, samples.labels
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1:] != shape:
        found = f"{images.dtype} {[*images.shape]}"
        return f"images must be uint8 [n, c, h, w], of one shape in all splits; these are {found}"
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        return f"needs one int64 label for each of {len(images)} images; these are {labels.dtype} {[*labels.shape]}"
    if len(labels) == 0:
        return "has no images"
    if labels.device.type != "cpu":
        return None  # was checked before it was moved; checking again would wait for the device
    low, high = int(labels.min()), int(labels.max())
    return None if 0 <= low <= high < classes else f"labels must be in 0..{classes - 1}; these are in {low}..{high}"
