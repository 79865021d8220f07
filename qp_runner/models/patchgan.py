"""The discriminator of Pix2Pix and CycleGAN, which judges overlapping patches (arXiv 1611.07004, section 6.1.2)."""

from torch import Tensor, nn

from qp_runner.models.layers import Norm, initialise, norm


class PatchGAN(nn.Module):
    """4×4 convolutions: `layers` of them halve the size, two more do not. Each output judges one patch.

    Args:
        in_channels: of the images; of both images together if it judges pairs.
        width: channels of the first layer; doubled per layer up to eight times as many.
        layers: number of layers that halve the size. A patch has 70×70 pixels with 3, as published, 34×34 with 2, 16×16
            with 1.
        norm: of all layers but the first and the last.
        affine: whether norms have weights and biases; in CycleGAN they do not.

    Shapes: [n, in_channels, h, w] → logits [n, 1, about h/2^layers, about w/2^layers], not probabilities.

    Raises:
        ValueError: a width or a number of layers below 1, an unknown norm.
    """

    def __init__(
        self, *, in_channels: int, width: int = 64, layers: int = 3, norm: Norm = "batch", affine: bool = True
    ) -> None:
        super().__init__()
        if width < 1 or layers < 1:
            raise ValueError(f"width={width}, layers={layers}: both at least 1")
        self.conv = nn.Conv2d(in_channels, width, 4, stride=2, padding=1)
        self.act = nn.LeakyReLU(0.2)
        self.blocks = nn.ModuleList()
        inputs = width
        for level in range(1, layers + 1):
            outputs = width * 2 ** min(level, 3)
            stride = 2 if level < layers else 1
            self.blocks.append(_block(inputs, outputs, stride=stride, kind=norm, affine=affine))
            inputs = outputs
        self.head = nn.Conv2d(inputs, 1, 4, stride=1, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """One logit per patch."""
        x = self.act(self.conv(x))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits


def _block(inputs: int, outputs: int, *, stride: int, kind: Norm, affine: bool) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=not affine)
    return nn.Sequential(conv, norm(kind, outputs, affine=affine), nn.LeakyReLU(0.2))
