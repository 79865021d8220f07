"""ESPCN: super-resolution that computes in low resolution (Shi et al. 2016)."""

import math

from torch import Tensor, nn


class ESPCN(nn.Module):
    """Convolutions of 5×5 to 64 and 3×3 to 32 channels with tanh, one of 3×3 to scale² channels, and a pixel shuffle.

    Args:
        scale: the factor by which height and width grow.
        channels: of the images; 1, as published, for luminance.

    Shapes: [n, channels, h, w] → [n, channels, h·scale, w·scale]. With ×3 and one channel 22 729 parameters.

    Initialised as in the PyTorch version of most published results: weights normal, with a standard deviation of
    √(2 / (output channels · kernel area)), but 0.001 in the last layer; biases zero.
    """

    def __init__(self, *, scale: int, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 5, padding=2)
        self.tanh1 = nn.Tanh()
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.tanh2 = nn.Tanh()
        self.conv3 = nn.Conv2d(32, channels * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        for conv in (self.conv1, self.conv2, self.conv3):
            spread = math.sqrt(2 / (conv.out_channels * math.prod(conv.kernel_size)))
            nn.init.normal_(conv.weight, std=0.001 if conv is self.conv3 else spread)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The images at high resolution."""
        x = self.tanh2(self.conv2(self.tanh1(self.conv1(x))))
        large: Tensor = self.shuffle(self.conv3(x))
        return large
