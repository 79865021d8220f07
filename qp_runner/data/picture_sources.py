"""Where pictures and their classes come from: files of folders, or the items of a data set."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from qp_runner.data.pictures import Preparation, read_picture
from qp_runner.errors import ConfigError


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

    def read(self, index: int, prepare: Preparation) -> Tensor:
        """One sample."""
        return read_picture(self.root / os.fsdecode(self.names[index]), prepare, key="data.root")

    def take(self, index: Tensor) -> "PictureFiles":
        """The files at these positions."""
        return PictureFiles(self.root, self.names[index.numpy()], self.labels[index])

    def fingerprint(self) -> str:
        """Of names, classes and the content of every file, each of which is read once in a process."""
        names = [os.fsdecode(name) for name in self.names]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = pool.map(lambda name: file_digest(self.root / name), names)
            found = hashlib.sha256()
            for name, label, digest in zip(names, self.labels.tolist(), digests, strict=True):
                found.update(f"{name}\0{label}\0".encode(errors="surrogatepass") + digest)
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
            raise ConfigError("data.root", f"item {place}", f"not a readable image: {error}") from error

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
    """All samples, uint8 [n, c, h, w]; Pillow decodes files side by side."""
    made = torch.empty(len(pictures.labels), *prepare.shape, dtype=torch.uint8)

    def read(index: int) -> None:
        made[index] = pictures.read(index, prepare)

    if isinstance(pictures, PictureFiles):
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(read, range(len(made))))
    else:
        for index in range(len(made)):
            read(index)
    return made


def file_digest(path: Path) -> bytes:
    """Of a file's content. It is read again only where size, time or place on disk differ from what they were."""
    status = path.stat()
    return _file_digest(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 20)
def _file_digest(path: Path, *_status: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def encoded(names: Sequence[str]) -> np.ndarray:
    """Paths as `PictureFiles` has them."""
    return np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
