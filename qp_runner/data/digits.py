"""scikit-learn's handwritten digits, the embedded default: 1797 grey images of 8×8 in ten classes."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from qp_runner.data.images import Augmentation, ImageData, ImageSet
from qp_runner.data.splits import stratified


def digits(*, augment: bool = False) -> ImageData:
    """The digits, split once and for all into about 50 % training, 10 % validation and 40 % test, by class.

    The test part is large so that the differences between schedules, a few tenths of a point, can be resolved.

    Args:
        augment: random shifts by up to one pixel.
    """
    bunch = load_digits()
    grey = np.asarray(bunch.images)  # [1797, 8, 8], whole numbers from 0 to 16
    images = torch.from_numpy((grey * 255 / 16).round().astype(np.uint8)).unsqueeze(1)
    everything = ImageSet(images, torch.from_numpy(np.asarray(bunch.target, dtype=np.int64)))
    train, val, test = (everything.take(index) for index in stratified(everything.labels, [0.5, 0.1]))
    pixels = train.images.double() / 255
    return ImageData(
        train=train,
        val=val,
        test=test,
        classes=tuple(str(digit) for digit in range(10)),
        mean=(pixels.mean().item(),),
        std=(pixels.std().item(),),
        augmentation=Augmentation(pad=1 if augment else 0),
    )
