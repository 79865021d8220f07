"""Data sets. Those embedded need no download; the others load from their official layouts."""

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.cifar10 import cifar10
from qp_runner.data.digits import digits
from qp_runner.data.images import Batch, ImageData, ImageSet

__all__ = ["Augmentation", "Batch", "ImageData", "ImageSet", "cifar10", "digits"]
