"""Where pictures and their classes come from: files of folders, or the items of a data set."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from qp_runner.data.many_files import Status, files_digest, side_by_side, status
from qp_runner.data.pictures import Preparation, read_picture
from qp_runner.errors import ConfigError

KEY = "data.root"


class Pictures(Protocol):
    """Pictures by position, and their classes."""

    @property
    def labels(self) -> Tensor:
        """The classes [n] (int64)."""

    def read(self, index: int, prepare: Preparation) -> Tensor:
        """One sample. Raises ConfigError for a picture that can't be read, with its name."""

    def take(self, index: Tensor) -> "Pictures":
        """Those at these positions."""


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """Image files below a folder.

    Attributes:
        names: their paths below `root`, as an array of bytes [n]: processes that read from a list of many texts would
            each copy it by and by.
    """

    root: Path
    names: np.ndarray
    labels: Tensor

    @property
    def paths(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(f"{self.root}/{os.fsdecode(name)}" for name in self.names)

    def read(self, index: int, prepare: Preparation) -> Tensor:
        """One sample."""
        return read_picture(self.root / os.fsdecode(self.names[index]), prepare, key=KEY)

    def take(self, index: Tensor) -> "PictureFiles":
        """The files at these positions."""
        return PictureFiles(self.root, self.names[index.numpy()], self.labels[index])

    def fingerprint(self) -> str:
        """Of names, classes and the content of every file (see `files_digest`)."""
        found = hashlib.sha256(b"\0".join([*self.names.tolist(), self.labels.numpy().tobytes()]))
        found.update(files_digest(self.paths, key=KEY).encode())
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class PictureItems:
    """Items of a data set.

    Attributes:
        items: gives (picture, ...), or a mapping with `key`; a picture is Pillow's, or an array [h, w] or [h, w, c].
        positions: in `items` [n] (int64).
        key: of the picture in an item.
    """

    items: Dataset[Any]
    positions: Tensor
    labels: Tensor
    key: str | int = 0

    def read(self, index: int, prepare: Preparation) -> Tensor:
        """One sample."""
        place = int(self.positions[index])
        try:
            picture = self.items[place][self.key]
            return prepare(picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture)))
        except (OSError, SyntaxError, ValueError, TypeError, KeyError) as error:
            raise ConfigError("data", f"item {place}", f"not a readable image: {error}") from error

    def take(self, index: Tensor) -> "PictureItems":
        """The items at these positions."""
        return PictureItems(self.items, self.positions[index], self.labels[index], self.key)


@dataclass(frozen=True, eq=False)
class PreparedPictures:
    """Samples in memory, uint8 [n, c, h, w]."""

    images: Tensor
    labels: Tensor

    def read(self, index: int, prepare: Preparation) -> Tensor:  # noqa: ARG002 - it was prepared before
        """One sample."""
        return self.images[index]

    def take(self, index: Tensor) -> "PreparedPictures":
        """The samples at these positions."""
        return PreparedPictures(self.images[index], self.labels[index])


def read_all(pictures: Pictures, prepare: Preparation) -> Tensor:
    """All samples, uint8 [n, c, h, w]; Pillow decodes files side by side. Files that are as they were when this process
    last read them are not read again.
    """
    if isinstance(pictures, PictureFiles):
        return _read_files(pictures.paths, statuses(pictures), prepare)
    if isinstance(pictures, PictureItems) and (ready := _as_they_are(pictures, prepare)) is not None:
        return ready
    samples = [pictures.read(index, prepare) for index in range(len(pictures.labels))]
    return torch.stack(samples) if samples else torch.empty(0, *prepare.shape, dtype=torch.uint8)


def statuses(pictures: PictureFiles) -> tuple[Status, ...]:
    """What changes with the content of files."""
    return tuple(status(path, key=KEY) for path in pictures.paths)


@lru_cache(maxsize=3)  # the splits of a set, for the jobs of a sweep
def _read_files(paths: tuple[str, ...], _statuses: tuple[Status, ...], prepare: Preparation) -> Tensor:
    made = torch.empty(len(paths), *prepare.shape, dtype=torch.uint8)

    def read(index: int) -> None:
        made[index] = read_picture(Path(paths[index]), prepare, key=KEY)

    side_by_side(read, len(made), what="reading images")
    return made


def _as_they_are(pictures: PictureItems, prepare: Preparation) -> Tensor | None:
    """The samples of a set that holds its pictures as one array of the size and kind asked for; None for others."""
    held: Any = getattr(pictures.items, "data", None)
    if not isinstance(held, np.ndarray | Tensor) or len(held) != len(pictures.items):  # type: ignore[arg-type]
        return None
    images = torch.as_tensor(held)
    if images.dim() == 4 and images.shape[-1] == prepare.channels:
        images = images.permute(0, 3, 1, 2)
    images = images.unsqueeze(1) if images.dim() == 3 and prepare.channels == 1 else images
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != prepare.shape or not len(pictures.labels):
        return None
    made = images[pictures.positions].contiguous()
    alike = all(torch.equal(made[index], pictures.read(index, prepare)) for index in (0, len(made) // 2, len(made) - 1))
    return made if alike else None


def encoded(names: Sequence[str]) -> np.ndarray:
    """Paths as `PictureFiles` has them."""
    return np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
