"""MobileNetV2 in its CIFAR form."""

from torch import Tensor, nn

STAGES = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""Expansion, channels, blocks, stride (Sandler et al. 2018, table 2), but the second stage keeps its resolution."""


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project back (Sandler et al. 2018, section 3.4), with a shortcut at stride 1.

    As in the CIFAR networks of arXiv 2110.08271, a shortcut whose channels change is projected by a 1×1 convolution.
    The block's output (after the sum) is what a runtime with fused layers writes to memory.
    """

    def __init__(self, *, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Identity() if in_channels == channels else _projection(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] → [n, channels, h/stride, w/stride]."""
        out: Tensor = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out if self.shortcut is None else out + self.shortcut(x)


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


class MobileNetV2(nn.Module):
    """MobileNetV2 for 32×32 images: 2 296 922 parameters with 3 input channels and 10 classes.

    Shapes: [n, in_channels, h, w] → [n, classes]. Initialised by torch's default: uniform in ±1/√(inputs of an output).
    """

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu1 = nn.ReLU()
        self.layers = nn.Sequential()
        width = 32
        for expansion, channels, blocks, first_stride in STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                self.layers.append(
                    InvertedResidual(in_channels=width, channels=channels, expansion=expansion, stride=stride)
                )
                width = channels
        self.conv2 = nn.Conv2d(width, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(self.layers(x))))
        logits: Tensor = self.fc(self.flatten(self.pool(x)))
        return logits
