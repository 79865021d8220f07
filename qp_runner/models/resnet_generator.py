"""The generator of CycleGAN (Zhu et al. 2017, arXiv 1703.10593, section 7.2; after Johnson et al. 2016)."""

from torch import Tensor, nn

from qp_runner.models.layers import initialise, norm


class Layer(nn.Module):
    """Convolution, instance norm, ReLU. As published, the convolution has a bias, though the norm cancels it."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *, pad: int = 0) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(pad) if pad else nn.Identity()
        self.conv = conv
        self.norm = norm("instance", conv.out_channels, affine=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h', w'], the convolution's output shape."""
        out: Tensor = self.relu(self.norm(self.conv(self.pad(x))))
        return out


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with reflection padding, added to the input; no ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer1 = Layer(nn.Conv2d(channels, channels, 3), pad=1)
        self.pad2 = nn.ReflectionPad2d(1)
        self.conv2 = nn.Conv2d(channels, channels, 3)
        self.norm2 = norm("instance", channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] → the same shape."""
        out: Tensor = x + self.norm2(self.conv2(self.pad2(self.layer1(x))))
        return out


class ResnetGenerator(nn.Module):
    """A 7×7 convolution, two that halve the size, residual blocks, two that double it, a 7×7 convolution, tanh.

    Args:
        in_channels, out_channels: of the images.
        width: channels of the first layer; inner layers have two and four times as many.
        blocks: residual blocks. 9 and a width of 64 are the published network for 256×256, with 11.38 M parameters.

    Shapes: [n, in_channels, h, w] with h, w multiples of 4 and at least 16 → [n, out_channels, h, w] in (−1, 1).

    Raises:
        ValueError: width or blocks below 1.
    """

    def __init__(self, *, in_channels: int, out_channels: int, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        if width < 1 or blocks < 1:
            raise ValueError(f"width={width}, blocks={blocks}: both at least 1")
        self.stem = Layer(nn.Conv2d(in_channels, width, 7), pad=3)
        self.down1 = Layer(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1))
        self.down2 = Layer(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1))
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(blocks))
        self.up1 = Layer(nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1))
        self.up2 = Layer(nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1))
        self.head_pad = nn.ReflectionPad2d(3)
        self.head = nn.Conv2d(width, out_channels, 7)
        self.tanh = nn.Tanh()
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translates images; ValueError for a size that is not a multiple of 4."""
        if x.shape[-2] % 4 or x.shape[-1] % 4:
            size = "×".join(map(str, x.shape[-2:]))
            raise ValueError(f"heights and widths have to be multiples of 4; these are {size}")
        x = self.down2(self.down1(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.tanh(self.head(self.head_pad(self.up2(self.up1(x)))))
        return out
