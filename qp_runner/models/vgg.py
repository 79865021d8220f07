"""VGG-11 in its CIFAR form."""

from typing import Literal

from torch import Tensor, nn

VGG11: list[int | Literal["pool"]] = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"]
"""Configuration A of Simonyan & Zisserman 2015, table 1."""


class VGG(nn.Module):
    """VGG-11 with batch norm and one linear layer: 9 231 114 parameters for CIFAR-10.

    Its five poolings need images of at least 32×32; larger ones are averaged. Shapes: [n, in_channels, h, w] →
    [n, classes]. Initialised by torch's default: uniform in ±1/√(inputs of an output).
    """

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        before = in_channels
        for layer in VGG11:
            if layer == "pool":
                self.features.append(nn.MaxPool2d(2))
                continue
            self.features.extend([nn.Conv2d(before, layer, 3, padding=1), nn.BatchNorm2d(layer), nn.ReLU()])
            before = layer
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.fc(self.flatten(self.pool(self.features(x))))
        return logits


def vgg11(*, in_channels: int, classes: int) -> VGG:
    """VGG-11 with batch norm."""
    return VGG(in_channels=in_channels, classes=classes)
