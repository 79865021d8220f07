"""CIFAR-10: 60 000 colour images of 32×32 in ten classes (Krizhevsky 2009), from either of its official layouts."""

from pathlib import Path
from typing import Literal

import torch

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.cifar10_files import BINARY, LAYOUTS, PYTHON, load
from qp_runner.data.images import ImageData, ImageSet
from qp_runner.data.splits import stratified
from qp_runner.errors import ConfigError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the 50 000 training images, black 0 and white 1
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
HELD_OUT = 0.1
HELP = f"set data.download=true, or unpack CIFAR-10's python version ({PYTHON}) or binary version ({BINARY}) there"


def cifar10(
    *,
    root: str | None,
    split: Literal["official", "holdout"] = "official",
    download: bool = False,
    subset: int | None = None,
    augment: bool = True,
) -> ImageData:
    """CIFAR-10, augmented by a crop after 4 pixels of padding and a flip.

    Args:
        root: the folder that holds `cifar-10-batches-py` (torchvision's layout) or `cifar-10-batches-bin`, or one of
            these.
        split: `official` tests on the official 10 000 images and validates on a fixed, stratified 5000 of the 50 000
            training images. `holdout` needs only the training files: those 5000 are validation **and** test data, so a
            choice made on them must not be reported on them.
        download: download the set to `root` if it is missing.
        subset: train on this many images only, fixed and stratified; validation and test stay complete.
        augment: whether training images are augmented.

    Raises:
        ConfigError: no such folder, missing or damaged files, an impossible split or subset.
    """
    if split not in ("official", "holdout"):
        raise ConfigError("data.split", split, "official or holdout")
    names = TRAINING if split == "holdout" else TRAINING + TEST
    folder = _folder(root, names, download=download)
    everything = load(folder, TRAINING)
    held_out, kept = stratified(everything.labels, [HELD_OUT])
    train, val = everything.take(kept), everything.take(held_out)
    return ImageData(
        train=train if subset is None else _subset(train, subset),
        val=val,
        test=val if split == "holdout" else load(folder, TEST),
        classes=CLASSES,
        mean=torch.tensor(MEAN),
        std=torch.tensor(STD),
        augmentation=Augmentation(pad=4, flip=True) if augment else Augmentation(),
    )


def _subset(train: ImageSet, samples: object) -> ImageSet:
    if not isinstance(samples, int) or isinstance(samples, bool) or not 1 <= samples <= len(train):
        raise ConfigError("data.subset", samples, f"a whole number from 1 to {len(train)}, or null for all")
    return train.take(stratified(train.labels, [samples])[0])


def _folder(root: object, names: tuple[str, ...], *, download: bool) -> Path:
    """The first layout below `root` that has all files; otherwise ConfigError naming the missing ones."""
    if root is None:
        raise ConfigError("data.root", root, f"the folder that holds {PYTHON} or {BINARY}; {HELP}")
    place = Path(str(root)).expanduser()
    missing = _missing(place, names)
    if all(missing.values()) and download:
        _download(place)
        missing = _missing(place, names)
    for folder, absent in missing.items():
        if not absent:
            return folder
    raise ConfigError("data.root", root, _complaint(place, missing))


def _missing(place: Path, names: tuple[str, ...]) -> dict[Path, list[str]]:
    """The files that each possible folder lacks."""
    folders = [place] if place.name in LAYOUTS else [place / layout for layout in LAYOUTS]
    return {folder: [n for n in names if not (folder / f"{n}{LAYOUTS[folder.name]}").is_file()] for folder in folders}


def _complaint(place: Path, missing: dict[Path, list[str]]) -> str:
    if not place.is_dir():
        return f"there is no such folder ({place.resolve()}); {HELP}"
    for folder, absent in missing.items():
        if folder.is_dir():
            files = ", ".join(f"{name}{LAYOUTS[folder.name]}" for name in absent)
            hint = "; data.split=holdout needs no test file" if absent == list(TEST) else ""
            return f"{files} missing in {folder.resolve()}{hint}; {HELP}"
    return f"no {PYTHON} or {BINARY} in {place.resolve()}; {HELP}"


def _download(place: Path) -> None:
    from torchvision.datasets import CIFAR10  # slow to import

    try:
        CIFAR10(str(place), download=True)
    except Exception as error:  # torchvision raises many kinds: no network, wrong checksum, no space
        raise ConfigError("data.root", place, f"could not download CIFAR-10 to it: {error}") from error
