"""Parts that the translation networks share."""

from typing import Literal

from torch import nn

Norm = Literal["batch", "instance"]
STD = 0.02  # of initial weights, as in arXiv 1611.07004 and 1703.10593


def norm(kind: Norm, channels: int, *, affine: bool = True) -> nn.Module:
    """A norm. For one sample, `instance` computes what `batch` computes in training mode.

    Raises:
        ValueError: another kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=affine)
    raise ValueError(f"norm={kind}: batch or instance")


def initialise(network: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02), of norms from N(1, 0.02), biases zero (arXiv 1611.07004, 6.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, STD)
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, STD)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
