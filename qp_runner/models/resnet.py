"""ResNets in their CIFAR forms (He et al. 2016): ResNet-18 with wide stages, ResNet-20 and -32 with narrow ones."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """A shortcut without parameters: every second pixel, new channels zero (He et al. 2016, option A)."""

    def __init__(self, *, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] → [n, c + extra_channels, ceil(h/2), ceil(w/2)]."""
        before = self.extra_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra_channels - before))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; separate ReLUs after the first convolution and after the sum."""

    def __init__(self, *, in_channels: int, channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
                if project
                else PadShortcut(extra_channels=channels - in_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] → [n, channels, h/stride, w/stride]."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu2(out + self.shortcut(x))
        return summed


class ResNet(nn.Module):
    """A ResNet for small images.

    Args:
        blocks: basic blocks of each stage; every stage but the first halves the resolution.
        widths: channels of each stage.
        project: shortcuts between stages by a 1×1 convolution (option B) or by zero padding (option A).

    Shapes: [n, in_channels, h, w] → [n, classes]. Convolutions are initialised after He et al. 2015 (normal, fan out).
    """

    def __init__(
        self, *, in_channels: int, classes: int, blocks: Sequence[int], widths: Sequence[int], project: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu1 = nn.ReLU()
        self.layers = nn.Sequential()
        before = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.layers.append(BasicBlock(in_channels=before, channels=width, stride=stride, project=project))
                before = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.layers(self.relu1(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(self.flatten(self.pool(x)))
        return logits


def resnet18(*, in_channels: int, classes: int) -> ResNet:
    """ResNet-18 with a 3×3 stem and no pooling after it: 11 173 962 parameters for CIFAR-10."""
    return ResNet(
        in_channels=in_channels, classes=classes, blocks=[2, 2, 2, 2], widths=[64, 128, 256, 512], project=True
    )


def resnet20(*, in_channels: int, classes: int) -> ResNet:
    """ResNet-20: 0.27 M parameters for CIFAR-10 (He et al. 2016, table 6)."""
    return ResNet(in_channels=in_channels, classes=classes, blocks=[3, 3, 3], widths=[16, 32, 64], project=False)


def resnet32(*, in_channels: int, classes: int) -> ResNet:
    """ResNet-32: 0.46 M parameters for CIFAR-10 (He et al. 2016, table 6)."""
    return ResNet(in_channels=in_channels, classes=classes, blocks=[5, 5, 5], widths=[16, 32, 64], project=False)
