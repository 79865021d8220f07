"""The files of CIFAR-10's two official layouts (https://www.cs.toronto.edu/~kriz/cifar.html)."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qp_runner.data.images import ImageSet
from qp_runner.errors import ConfigError

PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
LAYOUTS = {PYTHON: "", BINARY: ".bin"}  # folder -> suffix of its files
IMAGES_PER_FILE = 10_000
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
HARMLESS = {  # what an array needs, in any version of numpy; anything else in a pickle could run code
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


def load(folder: Path, names: Sequence[str]) -> ImageSet:
    """These files of a folder, concatenated. Raises ConfigError for a damaged file."""
    read = _read_binary if folder.name == BINARY else _read_python
    parts = [read(folder / f"{name}{LAYOUTS[folder.name]}") for name in names]
    images = np.concatenate([images for images, _ in parts]).reshape(-1, *SHAPE)
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels))


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads rows of one label byte and 3072 pixel bytes (red, green and blue planes)."""
    data = np.fromfile(path, dtype=np.uint8)
    if len(data) % (PIXELS + 1):
        raise _damaged(path, f"{len(data)} bytes are no whole number of images")
    rows = data.reshape(-1, PIXELS + 1)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a pickled dictionary with b"data" [n, 3072] and b"labels"."""
    try:
        entry = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        images, labels = np.asarray(entry[b"data"]), np.asarray(entry[b"labels"])
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(path, f"{type(error).__name__} {error}") from error
    return _checked(path, images, labels)


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if images.dtype != np.uint8 or images.shape != (len(labels), PIXELS):
        raise _damaged(path, f"{len(labels)} labels and images {images.dtype} {[*images.shape]} do not fit")
    if len(labels) != IMAGES_PER_FILE:
        raise _damaged(path, f"{len(labels)} images instead of {IMAGES_PER_FILE}")
    if not 0 <= labels.min() <= labels.max() <= 9:
        raise _damaged(path, f"labels from {labels.min()} to {labels.max()}, not from 0 to 9")
    return images, labels


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError("data.root", path, f"damaged or truncated file: {reason}; fetch it again")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into this file")
