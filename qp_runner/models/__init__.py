"""Plain networks. They know nothing of compression; each activation function is a module of its own."""

from qp_runner.models.faster_rcnn import faster_rcnn_c4, faster_rcnn_fpn
from qp_runner.models.mobilenetv2 import MobileNetV2
from qp_runner.models.resnet import ResNet, resnet18, resnet20, resnet32
from qp_runner.models.small_cnn import SmallCNN
from qp_runner.models.vgg import VGG, vgg11

__all__ = [
    "VGG",
    "MobileNetV2",
    "ResNet",
    "SmallCNN",
    "faster_rcnn_c4",
    "faster_rcnn_fpn",
    "resnet18",
    "resnet20",
    "resnet32",
    "vgg11",
]
