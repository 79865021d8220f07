"""Image sets for classifiers, in memory on the training device or streamed, and the batches drawn from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.loading import Place
from qp_runner.data.mixing import Mixing
from qp_runner.data.preprocessing import ImagePreprocessing
from qp_runner.data.rows import Rows, full_batches
from qp_runner.data.seeding import generator
from qp_runner.data.streamed_images import StreamedImages
from qp_runner.errors import ConfigError

Split = Literal["train", "val", "test"]


class Batch(NamedTuple):
    """Normalised images [n, c, h, w] (float32) and their labels [n] (int64), on the set's device.

    Labels of mixed images are shares [n, classes] (float32).
    """

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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]

    @property
    def index_device(self) -> torch.device:
        """Where positions have to be, so that a batch needs nothing from the host."""
        return self.images.device

    def take(self, index: Tensor | slice) -> "ImageSet":
        """The samples at these positions, in this order."""
        return ImageSet(self.images[index], self.labels[index])

    def batches(self, index: Sequence[Tensor], place: Place | None = None) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002
        """Images and labels at the positions of each batch; `place` is for sets that draw at random."""
        for each in index:
            yield self.images[each], self.labels[each]


@dataclass(frozen=True, eq=False)
class ImageData:
    """A classification set.

    Args:
        train, val, test: the splits, with images of one shape; those of `train` may be larger, by what the augmentation
            or a transform cuts.
        classes: their names; labels are positions in it.
        mean, std: of the training pixels by channel [c], where black is 0 and white 1.
        augmentation: of training images, by batches on the device.
        mixing: of the images of a training batch; None for none.

    Raises:
        ConfigError: splits that are empty, of wrong types or shapes, or with labels without a class.
    """

    train: ImageSet | StreamedImages
    val: ImageSet | StreamedImages
    test: ImageSet | StreamedImages
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixing: Mixing | None = None

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            shape = self.train.shape if name == "train" else self.shape
            problem = _problem(getattr(self, name), shape=shape, classes=len(self.classes))
            if problem:
                raise ConfigError("data", f"{name} split", problem)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what a network gets."""
        return self.train.shape[0], *self._size  # type: ignore[return-value]

    @property
    def _size(self) -> tuple[int, ...]:
        """Height and width of what a network gets."""
        if isinstance(self.train, StreamedImages) and self.train.size is not None:
            return self.train.size
        return tuple(side - self.augmentation.spare for side in self.train.shape[1:])

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device, moved once."""
        moved = {name: getattr(self, name).to(device) for name in ("train", "val", "test", "mean", "std")}
        return replace(self, **moved)

    def preprocessing(self) -> ImagePreprocessing:
        """What was done to the test images, for images from anywhere."""
        channels, height, width = self.shape
        streamed = isinstance(self.train, StreamedImages)
        spare = self.train.prepare.spare if streamed else self.augmentation.spare  # type: ignore[union-attr]
        mean, std = (tuple(each.tolist()) for each in (self.mean, self.std))
        return ImagePreprocessing(channels, (height, width), mean, std, spare)

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
        an epoch's draws are moved to the device before its first batch; batches of a set in memory then need nothing
        from the host.
        """
        batches = list(self._rows(epoch, batch_size=batch_size, seed=seed))
        samples = self.train.batches([each.positions for each in batches], (seed, epoch))
        for number, (rows, (images, labels)) in enumerate(zip(batches, samples, strict=True)):
            batch = self._augmented(images, labels, rows)
            if self.mixing is not None:
                batch = Batch(*self.mixing(*batch, classes=len(self.classes), place=(seed, epoch, number)))
            yield batch

    def rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Rows | Batch]:
        """The same batches before `make`; those of images that are streamed or mixed are made already."""
        in_memory = isinstance(self.train, ImageSet) and self.mixing is None
        make = self._rows if in_memory else self.epoch
        yield from make(epoch, batch_size=batch_size, seed=seed)

    def make(self, rows: Rows) -> Batch:
        """A training batch, of images in memory."""
        images, labels = next(self.train.batches([rows.positions]))
        return self._augmented(images, labels, rows)

    def _rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Rows]:
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch))
        draws = self.augmentation.draw(len(self.train), generator(seed, "augmentation", epoch))
        return full_batches([order, draws], batch_size=batch_size, device=self.train.index_device)

    def _augmented(self, images: Tensor, labels: Tensor, rows: Rows) -> Batch:
        augmented = self.augmentation.apply(images, rows.draws.to(images.device))
        return self.normalise(ImageSet(augmented, labels))

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """Unaugmented training samples, always the same for a seed (all of them if there are fewer)."""
        order = torch.randperm(len(self.train), generator=generator(seed, "calibration"))[:samples]
        yield from self._unaugmented(order.to(self.train.index_device).split(batch_size))

    def sample(self) -> Batch:
        """A batch of the first training image, unaugmented."""
        return next(self._unaugmented([torch.zeros(1, dtype=torch.int64, device=self.train.index_device)]))

    def evaluation(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """A complete split in order."""
        chosen: ImageSet | StreamedImages = getattr(self, split)
        order = torch.arange(len(chosen), device=chosen.index_device)
        for images, labels in chosen.batches(order.split(batch_size)):
            yield self.normalise(ImageSet(images, labels))

    def _unaugmented(self, index: Sequence[Tensor]) -> Iterator[Batch]:
        """Training images, the larger ones cut to their middle."""
        _, height, width = self.shape
        for images, labels in self.train.batches(index):
            top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
            yield self.normalise(ImageSet(images[..., top : top + height, left : left + width], labels))


def _problem(samples: ImageSet | StreamedImages, *, shape: tuple[int, ...], classes: int) -> str | None:
    """What is wrong with a split, if anything."""
    labels = samples.labels
    if isinstance(samples, ImageSet):
        images = samples.images
        if images.dtype != torch.uint8 or images.dim() != 4 or samples.shape != shape:
            found = f"{images.dtype} {[*images.shape]}"
            return f"images must be uint8 [n, c, h, w], of one shape in all splits; these are {found}"
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            return f"needs one int64 label for each of {len(images)} images; these are {labels.dtype} {[*labels.shape]}"
    elif samples.shape != shape:
        return f"images must be of one shape in all splits; these are {[*samples.shape]}"
    if len(labels) == 0:
        return "has no images"
    if labels.device.type != "cpu":
        return None  # was checked before it was moved; checking again would wait for the device
    low, high = int(labels.min()), int(labels.max())
    return None if 0 <= low <= high < classes else f"labels must be in 0..{classes - 1}; these are in {low}..{high}"
