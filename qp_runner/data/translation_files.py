"""Translation sets on disk: the aligned layout of Pix2Pix and the unpaired one of CycleGAN."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from qp_runner.data.image_files import image_paths, read_image
from qp_runner.data.splits import held_out
from qp_runner.data.translation import Domains, TranslationData
from qp_runner.errors import ConfigError

KEY = "data.root"
Direction = Literal["AtoB", "BtoA"]


def aligned(
    *,
    root: str | None,
    direction: Direction = "AtoB",
    size: int = 256,
    load_size: int | None = 286,
    flip: bool = True,
    train: str = "train",
    val: str | None = "val",
    test: str = "test",
    holdout: float = 0.1,
    subset: int | None = None,
) -> TranslationData:
    """The aligned layout: images of two pictures side by side, A on the left and B on the right.

    Grey images become RGB. Pairs may differ in size: all are resized.

    Args:
        root: the folder that contains the splits' folders.
        direction: `AtoB` translates left to right, `BtoA` right to left (facades: label maps to photographs).
        size: height and width of the networks' inputs.
        load_size: training images are resized to this, and a random square of `size` is cropped; None: no jitter.
        flip: flip training pairs with probability ½.
        train: name of the training pairs' folder.
        val: of the validation pairs' folder; None: the share `holdout` of the training pairs is held out.
        test: of the test pairs' folder.
        holdout: see `val`; always the same pairs.
        subset: use only the first `subset` pairs of each split, for quick runs.

    Raises:
        ConfigError: no such folder, a folder without images, an unreadable image, one of odd width.
    """
    train_size = _train_size(size, load_size, direction)
    folder = _folder(root, "the aligned layout: folders of images that show two pictures side by side")

    def read(name: str, edge: int) -> Domains:
        return _read_aligned(image_paths(folder / name, key=KEY)[:subset], edge, direction)

    training = read(train, train_size)
    if val is None:  # of both sides the same positions
        (a, val_a), (b, val_b) = (_hold_out(side, holdout, size) for side in (training.a, training.b))
        training, validation = Domains(a, b), Domains(val_a, val_b)
    else:
        validation = read(val, size)
    return TranslationData(train=training, val=validation, test=read(test, size), size=size, paired=True, flip=flip)


def unpaired(
    *,
    root: str | None,
    direction: Direction = "AtoB",
    size: int = 256,
    load_size: int | None = 286,
    flip: bool = True,
    holdout: float = 0.1,
    subset: int | None = None,
) -> TranslationData:
    """The unpaired layout: folders trainA, trainB, testA, testB, and optionally valA, valB.

    Args:
        root: the folder that contains them.
        direction: `BtoA` swaps the domains.
        size: height and width of the networks' inputs.
        load_size: training images are resized to this, and a random square of `size` is cropped; None: no jitter.
        flip: flip training images with probability ½.
        holdout: share of each domain's training images for validation, always the same, if valA and valB are missing.
        subset: use only the first `subset` images of each folder, for quick runs.

    Raises:
        ConfigError: no such folder, a folder without images, an unreadable image.
    """
    train_size = _train_size(size, load_size, direction)
    folder = _folder(root, "the unpaired layout: folders trainA, trainB, testA and testB")

    def read(name: str, edge: int) -> Tensor:
        paths = image_paths(folder / name, key=KEY)[:subset]
        return torch.cat([_resized(read_image(path, key=KEY)[None], edge) for path in paths])

    def domain(letter: str) -> tuple[Tensor, Tensor, Tensor]:
        training = read(f"train{letter}", train_size)
        if (folder / f"val{letter}").is_dir():
            return training, read(f"val{letter}", size), read(f"test{letter}", size)
        return *_hold_out(training, holdout, size), read(f"test{letter}", size)

    first, second = ("A", "B") if direction == "AtoB" else ("B", "A")
    train, val, test = (Domains(a, b) for a, b in zip(domain(first), domain(second), strict=True))
    return TranslationData(train=train, val=val, test=test, size=size, paired=False, flip=flip)


def halves(*, paired: TranslationData) -> TranslationData:
    """A paired set as an unpaired one: A from every second training pair, B from the others.

    Validation and test data keep all images of both domains.
    """
    train = Domains(paired.train.a[0::2], paired.train.b[1::2])
    return TranslationData(
        train=train, val=paired.val, test=paired.test, size=paired.size, paired=False, flip=paired.flip
    )


def _folder(root: str | None, layout: str) -> Path:
    if root is None:
        raise ConfigError(KEY, root, f"needs the folder of {layout}")
    place = Path(root).expanduser()
    if not place.is_dir():
        raise ConfigError(KEY, root, f"no such folder ({place.resolve()}); it should hold {layout}")
    return place


def _train_size(size: int, load_size: int | None, direction: str) -> int:
    """The size that training images are read in; raises ConfigError for arguments that are not allowed."""
    if direction not in ("AtoB", "BtoA"):
        raise ConfigError("data.direction", direction, "AtoB or BtoA")
    if size < 1:
        raise ConfigError("data.size", size, "at least 1")
    if load_size is not None and load_size < size:
        raise ConfigError("data.load_size", load_size, f"at least data.size={size}, or null")
    return load_size or size


def _read_aligned(paths: Sequence[Path], size: int, direction: Direction) -> Domains:
    left, right = [], []
    for path in paths:
        image = read_image(path, key=KEY)
        if image.shape[-1] % 2:
            raise ConfigError(KEY, path, f"a pair side by side needs an even width; this one has {image.shape[-1]}")
        one, other = image.chunk(2, dim=2)
        left.append(_resized(one[None], size))
        right.append(_resized(other[None], size))
    sides = torch.cat(left), torch.cat(right)
    return Domains(*(sides if direction == "AtoB" else reversed(sides)))


def _resized(images: Tensor, size: int) -> Tensor:
    """Images [n, c, h, w] as squares, bicubic, as published."""
    if images.shape[-2:] == (size, size):
        return images
    out: Tensor = resize(images, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return out


def _hold_out(images: Tensor, share: float, size: int) -> tuple[Tensor, Tensor]:
    """Images to train on, and those held out, `size`×`size`: for one number and share always the same positions."""
    count = round(share * len(images))
    if not 0 < count < len(images):
        allowed = f"has to leave some of the {len(images)} training images on both sides"
        raise ConfigError("data.holdout", share, allowed)
    kept, taken = held_out(len(images), count)
    return images[kept], _resized(images[taken], size)
