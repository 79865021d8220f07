"""Data sets. Those embedded need no download; the others load from their official layouts."""

from qp_runner.data.augmentation import Augmentation
from qp_runner.data.cifar10 import cifar10
from qp_runner.data.detection import DetectionBatch, DetectionData, Scene
from qp_runner.data.digits import digits
from qp_runner.data.images import Batch, ImageData, ImageSet
from qp_runner.data.shapes import shapes
from qp_runner.data.voc import voc_layout

__all__ = [
    "Augmentation",
    "Batch",
    "DetectionBatch",
    "DetectionData",
    "ImageData",
    "ImageSet",
    "Scene",
    "cifar10",
    "digits",
    "shapes",
    "voc_layout",
]
