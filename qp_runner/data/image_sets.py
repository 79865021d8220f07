"""Pictures of any source as an `ImageData`: prepared once and kept in memory where they fit, else streamed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.images import ImageData, ImageSet
from qp_runner.data.loading import processes
from qp_runner.data.picture_sources import Pictures, PreparedPictures, read_all
from qp_runner.data.pictures import MODES, Preparation, checked_size
from qp_runner.data.pixel_statistics import measured
from qp_runner.data.streamed_images import StreamedImages
from qp_runner.errors import ConfigError

IMAGENET = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}  # what torchvision's and timm's weights were trained with
GIGA = 10**9
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageOptions:
    """How pictures become samples.

    Attributes:
        size: pixels a side, or [height, width], of what a network gets.
        resize: pixels a side of the square that is cut to `size`: at random in training, in the middle elsewhere.
            None: `size`. With `size` of two numbers: its shorter side.
        channels: 3 for RGB, 1 for grey.
        pad, flip: of training images: see `Augmentation`.
        transforms: in place of crop and flip: of `torchvision.transforms.v2`, applied to one training image (uint8
            [c, resize, resize]) after the other; they have to end with uint8 [c, size, size].
        normalise: `data` (mean and standard deviation of training pixels), `imagenet`, or {mean: [...], std: [...]}.
        memory_gb: what may be kept in memory as uint8.
        workers: processes that read what is not in memory; `auto`: see `loading.processes`.
    """

    size: tuple[int, int]
    resize: int | None = None
    channels: int = 3
    pad: int = 0
    flip: bool = True
    transforms: Sequence[Callable[[Tensor], Tensor]] | None = None
    normalise: str | Mapping[str, Sequence[float]] = "data"
    memory_gb: float = 2.0
    workers: int | str = "auto"

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> "ImageOptions":
        """Options from their configuration. Raises ConfigError."""
        known = [each.name for each in fields(cls)]
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"data.{name}", value, f"unknown key; known keys here: {', '.join(known)}")
        made = cls(**{**given, "size": checked_size(given.get("size"))})
        least = min(made.size)
        checks = (
            ("resize", made.resize is None or (_whole(made.resize) and made.resize >= least), f"at least {least}"),
            ("channels", made.channels in MODES, "3 (RGB) or 1 (grey)"),
            ("pad", _whole(made.pad), "pixels, from 0"),
            ("memory_gb", isinstance(made.memory_gb, int | float) and made.memory_gb >= 0, "GB, from 0"),
        )
        for name, right, allowed in checks:
            if not right:
                raise ConfigError(f"data.{name}", getattr(made, name), allowed)
        return made

    @property
    def spare(self) -> int:
        """Pixels by which training images are larger than what a network gets."""
        return 0 if self.resize is None else self.resize - min(self.size)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def image_data(splits: Mapping[str, Pictures], classes: Sequence[str], options: ImageOptions) -> ImageData:
    """The splits `train`, `val` and `test` as a classifier's data.

    All are kept in memory, and later on the training device, if they fit into `memory_gb` as uint8; else none is. Both
    give the same batches, bit for bit. Transforms are applied by other processes in either case.

    Raises:
        ConfigError: an unreadable picture; in sets that don't fit it is found when its batch is read.
    """
    prepare = {name: _preparation(options, margin=name == "train") for name in splits}
    needed = sum(len(splits[name].labels) * math.prod(each.shape) for name, each in prepare.items())
    pictures: dict[str, Pictures] = dict(splits)
    if needed <= options.memory_gb * GIGA:
        pictures = {name: PreparedPictures(read_all(each, prepare[name]), each.labels) for name, each in splits.items()}
    mean, std = _normalisation(options, pictures["train"], prepare["train"])
    train, val, test = (_set(pictures[name], prepare[name], options, trained=name == "train") for name in SPLITS)
    crop = Augmentation(options.pad, options.flip, options.spare) if options.transforms is None else Augmentation()
    return ImageData(train, val, test, classes=tuple(classes), mean=mean, std=std, augmentation=crop)


def _set(
    pictures: Pictures, prepare: Preparation, options: ImageOptions, *, trained: bool
) -> ImageSet | StreamedImages:
    """A split, in memory or streamed."""
    transform = _chain(options.transforms) if trained and options.transforms is not None else None
    if isinstance(pictures, PreparedPictures) and transform is None:
        return ImageSet(pictures.images, pictures.labels)
    size, workers = None if transform is None else options.size, processes(options.workers)
    return StreamedImages(pictures, prepare, workers=workers, transform=transform, size=size)


def _preparation(options: ImageOptions, *, margin: bool) -> Preparation:
    return Preparation(options.size, options.spare, options.channels, margin=margin)


def _chain(transforms: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    for each in transforms:
        if not callable(each):
            raise ConfigError("data.transforms", each, "a list of {_target_: torchvision.transforms.v2...}")
    return Chain(tuple(transforms))


@dataclass(frozen=True)
class Chain:
    """Transforms, one after the other."""

    transforms: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, image: Tensor) -> Tensor:
        """The last one's result."""
        for each in self.transforms:
            image = each(image)
        return image


def _normalisation(options: ImageOptions, train: Pictures, prepare: Preparation) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel; computed from a part of a large set, always the same."""
    given, channels = options.normalise, options.channels
    if given == "data":
        return measured(train, prepare)
    if given == "imagenet" and channels == len(IMAGENET["mean"]):
        given = IMAGENET
    if not isinstance(given, Mapping) or {"mean", "std"} != given.keys():
        allowed = f"data, {'imagenet, ' if channels == 3 else ''}or {{mean: [...], std: [...]}}"
        raise ConfigError("data.normalise", options.normalise, allowed)
    mean, std = (torch.tensor([float(each) for each in given[name]]) for name in ("mean", "std"))
    if len(mean) != channels or len(std) != channels or not bool((std > 0).all()):
        raise ConfigError("data.normalise", options.normalise, f"{channels} numbers each, those of std above 0")
    return mean, std
