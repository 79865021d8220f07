"""Data sets: embedded ones, which need no download, and others in their official layouts."""

from qp_runner.data.augmentation import Augmentation, RandomCrop
from qp_runner.data.cifar10 import cifar10
from qp_runner.data.detection import DetectionBatch, DetectionData, Scene
from qp_runner.data.digits import digits
from qp_runner.data.generated_facades import generated_facades, generated_facades_unpaired
from qp_runner.data.huggingface import huggingface_set
from qp_runner.data.image_folder import image_folder
from qp_runner.data.images import Batch, ImageData, ImageSet
from qp_runner.data.items import Items
from qp_runner.data.mixing import Mixing
from qp_runner.data.photographs import photographs
from qp_runner.data.preprocessing import ImagePreprocessing
from qp_runner.data.rows import HasRows, Rows
from qp_runner.data.shapes import shapes
from qp_runner.data.super_resolution import Patches, Photograph, SuperResolutionData
from qp_runner.data.super_resolution_folders import super_resolution_folders
from qp_runner.data.torchvision_sets import torchvision_set
from qp_runner.data.translation import Domains, TranslationBatch, TranslationData
from qp_runner.data.translation_files import aligned, halves, unpaired
from qp_runner.data.voc import voc_layout

__all__ = [
    "Augmentation",
    "Batch",
    "DetectionBatch",
    "DetectionData",
    "Domains",
    "HasRows",
    "ImageData",
    "ImagePreprocessing",
    "ImageSet",
    "Items",
    "Mixing",
    "Patches",
    "Photograph",
    "RandomCrop",
    "Rows",
    "Scene",
    "SuperResolutionData",
    "TranslationBatch",
    "TranslationData",
    "aligned",
    "cifar10",
    "digits",
    "generated_facades",
    "generated_facades_unpaired",
    "halves",
    "huggingface_set",
    "image_folder",
    "photographs",
    "shapes",
    "super_resolution_folders",
    "torchvision_set",
    "unpaired",
    "voc_layout",
]
