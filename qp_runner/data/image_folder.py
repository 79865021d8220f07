"""A folder of images, one folder for each class: the files, their classes and their splits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qp_runner.data.held_out import with_held_out
from qp_runner.data.image_sets import ImageOptions, image_data
from qp_runner.data.images import ImageData
from qp_runner.data.picture_sources import PictureFiles, encoded
from qp_runner.errors import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of a split's folder."""

NO_CLASS = ("__MACOSX", "lost+found")
LAYOUT = "a folder with train/<class>/*.jpg (val and test likewise), or with <class>/*.jpg"


def image_folder(*, root: str | None, val_share: float = 0.1, test_share: float = 0.2, **options: Any) -> ImageData:
    """Images below `root`, in the folders `train`, `val`, `test` with a folder for each class, or in classes alone.

    A split without a folder is held out of the training images: a fixed, stratified share of every class. Files in
    folders below a class's belong to it. Hidden files and folders, and files that are no images by their suffix, are
    passed over. Classes are in the order of their names.

    Args:
        root: the folder.
        val_share: of the training images, if there is no folder `val`.
        test_share: the same for `test`.
        options: see `ImageOptions`.

    Raises:
        ConfigError: no such folder, a class without images, one outside `train` that `train` lacks, too few images for
            the shares, an unreadable image.
    """
    if root is None:
        raise ConfigError("data.root", root, LAYOUT)
    place = Path(str(root)).expanduser()
    if not place.is_dir():
        raise ConfigError("data.root", root, f"no such folder ({place.resolve()}); {LAYOUT}")
    folders = {split: _folder(place, names) for split, names in SPLITS.items()}
    if folders["train"] is None and (others := [each.name for each in folders.values() if each is not None]):
        raise ConfigError("data.root", root, f"there is a folder {others[0]}, but no folder train")
    classes = _classes(folders["train"] or place)
    if not classes:
        raise ConfigError("data.root", root, f"no class in {(folders['train'] or place).resolve()}; {LAYOUT}")
    found = {split: _files(place, folder, classes) for split, folder in folders.items() if folder is not None}
    if not found:
        found["train"] = _files(place, place, classes)
    shares = {"val": val_share, "test": test_share}
    splits = with_held_out(found, {split: share for split, share in shares.items() if split not in found}, classes)
    return image_data(splits, tuple(classes), ImageOptions.checked(options))


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _classes(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and not _is_hidden(each.name))


def _files(root: Path, folder: Path, classes: Sequence[str]) -> PictureFiles:
    """All images of a split."""
    unknown = [name for name in _classes(folder) if name not in classes]
    if unknown:
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise ConfigError("data.root", str(folder / unknown[0]), f"a class that train has: {known}")
    names, counts = [], []
    for each in classes:
        inside = _images(root, folder / each)
        if not inside and (folder / each).is_dir():
            raise ConfigError("data.root", str(folder / each), f"has no images; looked for {', '.join(SUFFIXES)}")
        names += inside
        counts.append(len(inside))
    labels: Tensor = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return PictureFiles(root, encoded(names) if names else np.array([], dtype=np.bytes_), labels)


def _images(root: Path, folder: Path) -> list[str]:
    """The images in a folder and those below, sorted, as paths below `root`. Links are followed, but not in circles."""
    found, met = list[str](), set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in met:
            folders.clear()
            continue
        met.add(real)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        below = Path(place).relative_to(root).as_posix()
        found += [f"{below}/{name}" for name in names if not _is_hidden(name) and name.lower().endswith(SUFFIXES)]
    return sorted(found, key=lambda path: path.split("/"))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NO_CLASS
