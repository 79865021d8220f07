"""Plain networks without compression. Each activation function is a separate module."""

from qp_runner.models.espcn import ESPCN
from qp_runner.models.faster_rcnn import faster_rcnn_c4, faster_rcnn_fpn
from qp_runner.models.libraries import timm_network, torchvision_network
from qp_runner.models.mobilenetv2 import MobileNetV2
from qp_runner.models.patchgan import PatchGAN
from qp_runner.models.resnet import ResNet, resnet18, resnet20, resnet32
from qp_runner.models.resnet_generator import ResnetGenerator
from qp_runner.models.small_cnn import SmallCNN
from qp_runner.models.unet import UNetGenerator
from qp_runner.models.vgg import VGG, vgg11

__all__ = [
    "ESPCN",
    "VGG",
    "MobileNetV2",
    "PatchGAN",
    "ResNet",
    "ResnetGenerator",
    "SmallCNN",
    "UNetGenerator",
    "faster_rcnn_c4",
    "faster_rcnn_fpn",
    "resnet18",
    "resnet20",
    "resnet32",
    "timm_network",
    "torchvision_network",
    "vgg11",
]
