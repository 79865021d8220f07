"""CIFAR-10 from either of its official layouts: 60 000 colour images of 32×32 in ten classes (Krizhevsky 2009)."""

import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from qp_runner.data.images import Augmentation, ImageData, ImageSet
from qp_runner.data.splits import stratified
from qp_runner.errors import ConfigError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
PIXELS = 3 * 32 * 32
HELD_OUT = 5000


def cifar10(
    *,
    root: str | None,
    split: Literal["official", "holdout"] = "official",
    download: bool = False,
    subset: int | None = None,
    augment: bool = True,
) -> ImageData:
    """CIFAR-10 with a crop after 4 pixels of padding and a flip as augmentation.

    Args:
        root: the folder that holds `cifar-10-batches-py` (torchvision's layout) or `cifar-10-batches-bin`.
        split: `official` tests on the official 10 000 and keeps a fixed, stratified 5000 of the training images for
            validation. `holdout` needs the training files alone: those 5000 serve as validation and as test, so
            nothing may be chosen on them that is then reported on them.
        download: fetch the set to `root` if it is not there (needs a network).
        subset: use this many training images only, fixed and stratified.
        augment: whether training images are augmented.

    Raises:
        ConfigError: no such folder, missing or damaged files, a split that does not exist.
    """
    if split not in ("official", "holdout"):
        raise ConfigError("data.split", split, "official or holdout")
    folder = _folder(root, download=download)
    everything = _load(folder, [f"data_batch_{number}" for number in range(1, 6)])
    held_out, kept = stratified(everything.labels, [HELD_OUT])
    train, val = everything.take(kept), everything.take(held_out)
    test = val if split == "holdout" else _load(folder, ["test_batch"])
    if subset is not None:
        if not 1 <= subset <= len(train):
            raise ConfigError("data.subset", subset, f"from 1 to {len(train)} training images, or null for all")
        train = train.take(stratified(train.labels, [subset])[0])
    augmentation = Augmentation(pad=4, flip=True) if augment else Augmentation()
    return ImageData(train, val, test, CLASSES, MEAN, STD, augmentation)


def _folder(root: str | None, *, download: bool) -> Path:
    if root is None:
        raise ConfigError("data.root", root, f"the folder that holds {PYTHON} or {BINARY}")
    if download and not any((Path(root) / name).is_dir() for name in (PYTHON, BINARY)):
        try:
            CIFAR10(root, download=True)
        except Exception as error:  # torchvision raises many kinds: no network, wrong checksum, no space
            raise ConfigError("data.root", root, f"could not download CIFAR-10 to it: {error}") from error
    for name in (PYTHON, BINARY):
        if (Path(root) / name).is_dir():
            return Path(root) / name
    how = "set data.download=true, or unpack CIFAR-10's python or binary version there"
    raise ConfigError("data.root", root, f"no {PYTHON} or {BINARY} in {Path(root).resolve()}; {how}")


def _load(folder: Path, names: list[str]) -> ImageSet:
    read = _read_binary if folder.name == BINARY else _read_python
    parts = [read(folder, name) for name in names]
    images = np.concatenate([images for images, _ in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return ImageSet(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels))


def _read_binary(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One file of rows: a byte of label, 3072 bytes of pixels (red, green, blue planes)."""
    path = _existing(folder / f"{name}.bin")
    data = np.fromfile(path, dtype=np.uint8)
    if len(data) == 0 or len(data) % (PIXELS + 1):
        raise _damaged(path, f"{len(data)} bytes is no whole number of images")
    rows = data.reshape(-1, PIXELS + 1)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _read_python(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One pickled dictionary with b"data" [n, 3072] and b"labels"."""
    path = _existing(folder / name)
    try:
        with path.open("rb") as file:
            entry = pickle.load(file, encoding="bytes")
        return _checked(path, np.asarray(entry[b"data"], dtype=np.uint8), np.asarray(entry[b"labels"]))
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise _damaged(path, str(error)) from error


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if images.ndim != 2 or images.shape[1] != PIXELS or len(images) != len(labels):
        raise _damaged(path, f"images {images.shape} and {len(labels)} labels do not fit")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(CLASSES):
        raise _damaged(path, f"labels from {labels.min()} to {labels.max()}, not 0 to 9")
    return images, labels


def _existing(path: Path) -> Path:
    if not path.is_file():
        needed = "; data.split=holdout needs no test file" if path.stem == "test_batch" else ""
        raise ConfigError("data.root", path.parent.parent, f"{path.name} is missing in {path.parent.resolve()}{needed}")
    return path


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError("data.root", path, f"damaged or truncated file: {reason}; fetch it again")
