"""A small convolutional classifier for quick runs."""

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Three blocks of convolution, batch norm and ReLU, two poolings, and a linear classifier.

    Args:
        in_channels: channels of the images.
        classes: outputs.
        width: channels of the first block; the others have twice and four times as many.

    Shapes: [n, in_channels, h, w] with h, w of at least 2 → [n, classes]. Initialised by torch's default: uniform in
    ±1/√(inputs of an output).
    """

    def __init__(self, *, in_channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu3 = nn.ReLU()
        self.pool3 = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))
        x = self.pool3(self.relu3(self.bn3(self.conv3(x))))
        logits: Tensor = self.fc(self.flatten(x))
        return logits
