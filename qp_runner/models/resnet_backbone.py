"""ResNets without their classifier (He et al. 2016), for networks that read feature maps.

Parameters have torchvision's names, so that its weights load; unlike there, every ReLU is a separate module.
"""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["batch", "group", "frozen"]
MakeNorm = Callable[[int], nn.Module]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGES = ("layer1", "layer2", "layer3", "layer4")


def norm_layer(kind: Norm) -> MakeNorm:
    """The function that makes a norm from its number of channels.

    `batch`: batch norm, for batches of eight images or more. `group`: group norm with 32 groups (or the largest number
    that divides both 32 and the channels; Wu & He 2018), independent of the batch. `frozen`: batch norm whose
    statistics and affine parameters are constants, for pretrained weights.
    """
    makers: dict[str, MakeNorm] = {
        "batch": nn.BatchNorm2d,
        "group": lambda channels: nn.GroupNorm(math.gcd(32, channels), channels),
        "frozen": FrozenBatchNorm2d,
    }
    if kind not in makers:
        raise ValueError(f"norm must be one of {', '.join(makers)}, not {kind}")
    return makers[kind]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; ResNet-18 and -34."""

    expansion = 1

    def __init__(self, *, in_channels: int, width: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.downsample = _shortcut(in_channels, width, stride=stride, norm=norm)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] → [n, width, h/stride, w/stride]."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu2(out + self.downsample(x))
        return summed


class Bottleneck(nn.Module):
    """1×1, 3×3 (which strides, as torchvision's) and 1×1 convolutions and a shortcut; ResNet-50 and -101."""

    expansion = 4

    def __init__(self, *, in_channels: int, width: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride=stride, norm=norm)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] → [n, 4 · width, h/stride, w/stride]."""
        out = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        summed: Tensor = self.relu3(self.bn3(self.conv3(out)) + self.downsample(x))
        return summed


class ResNetBackbone(nn.Module):
    """The stages of a ResNet, or the first of them.

    Args:
        depth: 18, 34, 50 or 101.
        norm: see `norm_layer`.
        width: channels of the stem and of the first stage's 3×3 convolutions; each later stage has twice as many.
        small_stem: a 3×3 convolution with stride 2 instead of the 7×7 with stride 2 and the max pooling, for images of
            about a hundred pixels. Stages then have strides 2, 4, 8, 16 instead of 4, 8, 16, 32.

    Raises:
        ValueError: an unknown depth or norm, width below 1.
    """

    def __init__(self, *, depth: int, norm: Norm, width: int = 64, small_stem: bool = False) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, not {depth}")
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        make_norm, block = norm_layer(norm), BasicBlock if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(3, width, 3 if small_stem else 7, stride=2, padding=1 if small_stem else 3, bias=False)
        self.bn1 = make_norm(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [width * 2**stage * block.expansion for stage in range(4)]
        before = width
        for stage, (name, count) in enumerate(zip(STAGES, BLOCKS[depth], strict=True)):
            blocks = nn.Sequential()
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(block(in_channels=before, width=width * 2**stage, stride=stride, norm=make_norm))
                before = self.channels[stage]
            self.add_module(name, blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every stage that was not deleted, by its name, for images [n, 3, h, w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = {}
        for name in STAGES:
            if hasattr(self, name):
                outputs[name] = x = self.get_submodule(name)(x)
        return outputs

    def freeze(self, count: int) -> None:
        """Freezes the stem and the first `count` − 1 stages; 0 freezes nothing (ValueError above 5)."""
        if not 0 <= count <= 5:
            raise ValueError(f"frozen must be from 0 to 5 (the stem and four stages), not {count}")
        for module in [nn.ModuleList([self.conv1, self.bn1]), *map(self.get_submodule, STAGES)][:count]:
            module.requires_grad_(False)


def _shortcut(in_channels: int, out_channels: int, *, stride: int, norm: MakeNorm) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), norm(out_channels))
