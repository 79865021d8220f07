"""Luminance as the super-resolution literature measures it: Y of ITU-R BT.601, black 16 and white 235 of 255."""

import torch
from torch import Tensor

WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # of red, green, blue; together 219/255
BLACK = 16.0
RANGE = 219.0 / 255.0


def luminance(rgb: Tensor) -> Tensor:
    """Y of an RGB image, uint8 [3, h, w] → float32 [1, h, w], where 255 is 1; not rounded.

    Source: ITU-R BT.601 with studio range, the `rgb2ycbcr` of published PSNR figures on Set5.
    """
    weights = torch.tensor(WEIGHTS, dtype=torch.float64, device=rgb.device).view(3, 1, 1)
    y = BLACK + (rgb.double() * weights).sum(dim=0, keepdim=True)
    return (y / 255).float()


def with_luminance(rgb: Tensor, y: Tensor) -> Tensor:
    """An RGB image with its luminance replaced, its two chroma channels kept: uint8 [3, h, w], y [1, h, w] → uint8.

    Y contributes equally to red, green and blue, so all three change by the same amount.
    """
    change = (y.double() - luminance(rgb).double()) * 255 / RANGE
    return (rgb.double() + change).round().clamp(0, 255).to(torch.uint8)
