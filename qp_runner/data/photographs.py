"""The photographs in scikit-image's wheel, an embedded default for super-resolution: nothing to download."""

import numpy as np
import torch

from qp_runner.data.super_resolution import (
    Photograph,
    SuperResolutionData,
    at_two_resolutions,
    check_patches,
    patches,
)

TRAIN = ("astronaut", "brick", "chelsea", "grass", "gravel", "immunohistochemistry", "page", "rocket")
VAL = ("coins",)
TEST = ("camera", "coffee", "text")
"""Split by motif. According to scikit-image all are public domain, CC0, or without known restrictions."""


def photographs(*, scale: int = 3, patch: int = 17, stride: int = 13) -> SuperResolutionData:
    """Eight photographs to train on, one for validation and three for test, 171 to 640 pixels a side; some are grey.

    Args:
        scale: 2, 3 or 4.
        patch: low-resolution pixels a side of a training patch.
        stride: low-resolution pixels from one patch to the next.

    Raises:
        ConfigError: an impossible scale, patch or stride.
    """
    check_patches(scale=scale, patch=patch, stride=stride)
    train, val, test = (tuple(_load(name, scale=scale) for name in names) for names in (TRAIN, VAL, TEST))
    return SuperResolutionData(
        train=patches(train, scale=scale, size=patch, stride=stride), val=val, test=test, scale=scale
    )


def _load(name: str, *, scale: int) -> Photograph:
    import skimage.data  # most runs don't need it

    pixels = np.asarray(getattr(skimage.data, name)())  # uint8 [h, w] or [h, w, 3], read from the installed package
    rgb = torch.from_numpy(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2))
    return at_two_resolutions(name, rgb.permute(2, 0, 1).contiguous(), scale=scale)
