"""scikit-learn's handwritten digits, the embedded default: 1797 grey images of 8×8 in ten classes."""

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.images import ImageData, ImageSet
from qp_runner.data.splits import stratified


def digits(*, augment: bool = False) -> ImageData:
    """The digits in a fixed, stratified split: 898 for training, 179 for validation, 720 for test.

    These are 50, 10 and 40 %. The test part is large enough to resolve differences between schedules of a few tenths of
    a point: one image is 0.14 points.

    Args:
        augment: random shifts by up to one pixel.
    """
    table = _table()
    grey = table[:, :-1].reshape(-1, 1, 8, 8)
    images = torch.from_numpy((grey * 255 / 16).round().astype(np.uint8))
    everything = ImageSet(images, torch.from_numpy(table[:, -1].astype(np.int64)))
    train, val, test = (everything.take(index) for index in stratified(everything.labels, [0.5, 0.1]))
    pixels = train.images.double() / 255
    return ImageData(
        train=train,
        val=val,
        test=test,
        classes=tuple(str(digit) for digit in range(10)),
        mean=pixels.mean().view(1).float(),
        std=pixels.std().view(1).float(),
        augmentation=Augmentation(pad=1 if augment else 0),
    )


@cache
def _table() -> NDArray[Any]:
    """Rows of 64 grey values (whole numbers from 0 to 16) and the digit, [1797, 65], from scikit-learn's own file.

    The file is read without importing scikit-learn, which would take a second or more of every run, unless a version
    keeps it somewhere else.
    """
    spec = find_spec("sklearn")
    folder = Path(spec.origin or "").parent if spec is not None else Path()
    try:
        with gzip.open(folder / "datasets" / "data" / "digits.csv.gz", "rt") as file:
            return np.loadtxt(file, delimiter=",")
    except FileNotFoundError:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return np.column_stack([bunch.data, bunch.target])
