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
        paths = tuple(pictures.root / os.fsdecode(name) for name in pictures.names)
        return _read_files(paths, tuple(map(_status, paths)), prepare)
    if isinstance(pictures, PictureItems) and (ready := _as_they_are(pictures, prepare)) is not None:
        return ready
    samples = [pictures.read(index, prepare) for index in range(len(pictures.labels))]
    return torch.stack(samples) if samples else torch.empty(0, *prepare.shape, dtype=torch.uint8)


@lru_cache(maxsize=3)  # the splits of a set, for the jobs of a sweep
def _read_files(paths: tuple[Path, ...], _statuses: tuple[tuple[int, ...], ...], prepare: Preparation) -> Tensor:
    made = torch.empty(len(paths), *prepare.shape, dtype=torch.uint8)

    def read(index: int) -> None:
        made[index] = read_picture(paths[index], prepare, key="data.root")

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(made))))
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


def file_digest(path: Path) -> bytes:
    """Of a file's content. It is read again only where size, time or place on disk differ from what they were."""
    return _file_digest(path, _status(path))


def _status(path: Path) -> tuple[int, ...]:
    """What changes with a file's content. ConfigError for a file that has gone."""
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError("data.root", path, f"not a readable image: {error}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1 << 20)
def _file_digest(path: Path, _found: tuple[int, ...]) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def encoded(names: Sequence[str]) -> np.ndarray:
    """Paths as `PictureFiles` has them."""
    return np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
