"""The U-Net generator of Pix2Pix (Isola et al. 2017, arXiv 1611.07004, section 6.1.1)."""

import torch
from torch import Tensor, nn

from qp_runner.models.layers import Norm, initialise, norm


class Down(nn.Module):
    """Halves height and width: convolution, norm, activation function."""

    def __init__(self, inputs: int, outputs: int, *, kind: Norm | None, act: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=kind is None)
        self.norm = norm(kind, outputs) if kind else nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h/2, w/2]."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class Up(nn.Module):
    """Doubles height and width: transposed convolution, norm, dropout, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kind: Norm, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        self.norm = norm(kind, outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, 2h, 2w]."""
        out: Tensor = self.relu(self.dropout(self.norm(self.conv(x))))
        return out


class UNetGenerator(nn.Module):
    """An encoder and a decoder with skip connections between layers of equal size.

    A skip passes the encoder's activation (a LeakyReLU's output) through a ReLU to the decoder. This equals the
    published ReLU of the concatenated tensor, applied to its halves separately, so that each half is one tensor in
    memory.

    Args:
        in_channels, out_channels: of the images.
        width: channels of the first layer; doubled per layer up to eight times as many.
        depth: layers down and layers up. Heights and widths must be multiples of 2^depth. 8 and a width of 64 are
            the published network for 256×256, with 54.4 M parameters.
        norm: `batch` as published. At the published batch size of 1, where batch norm uses the statistics of the one
            sample also in evaluation, `instance` computes the same in both modes.
        dropout: its probability in the `dropout_layers` innermost layers up.
        dropout_layers: how many layers have dropout.

    Shapes: [n, in_channels, h, w] → [n, out_channels, h, w] in (−1, 1).

    Raises:
        ValueError: a width below 1, a depth below 2, an unknown norm.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        dropout_layers: int = 3,
    ) -> None:
        super().__init__()
        if width < 1 or depth < 2:
            raise ValueError(f"width={width}, depth={depth}: a width of at least 1, a depth of at least 2")
        channels = [width * 2 ** min(level, 3) for level in range(depth)]
        self.multiple = 2**depth
        self.downs = nn.ModuleList()
        for level, outputs in enumerate(channels):
            inner = 0 < level < depth - 1  # neither the first layer nor the innermost, which may be 1×1, has a norm
            act = nn.ReLU() if level == depth - 1 else nn.LeakyReLU(0.2)
            inputs = channels[level - 1] if level else in_channels
            self.downs.append(Down(inputs, outputs, kind=norm if inner else None, act=act))
        self.ups, self.skips = nn.ModuleList(), nn.ModuleList()
        for step, level in enumerate(range(depth - 1, 0, -1)):
            inputs = channels[level] * (2 if step else 1)  # all but the innermost read a skip too
            p = dropout if step < dropout_layers else 0.0
            self.ups.append(Up(inputs, channels[level - 1], kind=norm, dropout=p))
            self.skips.append(nn.ReLU())
        self.head = nn.ConvTranspose2d(2 * width, out_channels, 4, stride=2, padding=1)
        self.tanh = nn.Tanh()
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translates images; ValueError for a size that is not a multiple of 2^depth."""
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            size = "×".join(map(str, x.shape[-2:]))
            raise ValueError(f"heights and widths have to be multiples of 2^depth = {self.multiple}; these are {size}")
        kept = []
        for down in self.downs:
            x = down(x)
            kept.append(x)
        x = kept.pop()
        for up, skip in zip(self.ups, self.skips, strict=True):
            x = torch.cat([up(x), skip(kept.pop())], dim=1)
        out: Tensor = self.tanh(self.head(x))
        return out
