"""Data sets. Those embedded need no download; the others load from their official layouts."""

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.cifar10 import cifar10
from qp_runner.data.digits import digits
from qp_runner.data.images import Batch, ImageData, ImageSet
from qp_runner.data.photographs import photographs
from qp_runner.data.super_resolution import Patches, Photograph, SuperResolutionData
from qp_runner.data.super_resolution_folders import super_resolution_folders

__all__ = [
    "Augmentation",
    "Batch",
    "ImageData",
    "ImageSet",
    "Patches",
    "Photograph",
    "SuperResolutionData",
    "cifar10",
    "digits",
    "photographs",
    "super_resolution_folders",
]
