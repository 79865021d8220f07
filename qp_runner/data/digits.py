"""scikit-learn's handwritten digits, the embedded default: 1797 grey images of 8×8 in ten classes."""

import numpy as np
import torch

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.images import ImageData, ImageSet
from qp_runner.data.splits import stratified


def digits(*, augment: bool = False) -> ImageData:
    """The digits, split once and for all by class: 898 for training, 179 for validation, 720 for test.

    That is 50, 10 and 40 %. The test part is large so that the differences between schedules, a few tenths of a point,
    can be resolved: one image of it is 0.14 points.

    Args:
        augment: random shifts by up to one pixel.
    """
    from sklearn.datasets import load_digits  # here, since it takes seconds to import

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
        mean=pixels.mean().view(1).float(),
        std=pixels.std().view(1).float(),
        augmentation=Augmentation(pad=1 if augment else 0),
    )
