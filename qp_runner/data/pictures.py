"""From any picture to a training sample: decoded, converted, scaled and cut to one size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from qp_runner.errors import ConfigError

FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What a file may be, whatever its name says. Pillow would run Ghostscript for an EPS file."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's name of what samples are, by channels."""

UNCONVERTIBLE = ("I", "F")  # 32-bit numbers, whose black and white nothing tells


@dataclass(frozen=True)
class Preparation:
    """Pictures of any size, as samples of one size.

    A picture is turned upright (EXIF), converted, scaled so that it just covers `size` and `spare` more pixels a side,
    and cut to its middle. Conversion: grey, palette, CMYK and other pictures become RGB (or grey, for one channel) by
    Pillow's rules; transparency is dropped; 16-bit grey is divided by 257; of an animation the first picture counts.

    Attributes:
        size: height and width.
        spare: pixels by which height and width are larger, for crops at random.
        channels: 3 for RGB, 1 for grey.
        margin: whether these pixels are kept; else a sample has `size`.
    """

    size: tuple[int, int]
    spare: int = 0
    channels: int = 3
    margin: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a sample."""
        height, width = self.size
        more = self.spare if self.margin else 0
        return self.channels, height + more, width + more

    def __call__(self, picture: Image.Image) -> Tensor:
        """A sample, uint8 of `shape`. ValueError for what can't be converted."""
        _, height, width = self.shape
        least = self.size[0] + self.spare, self.size[1] + self.spare
        image = ImageOps.exif_transpose(picture)
        tall, wide = covering(image.height, image.width, least)
        wanted = wide, tall
        if Image.MAX_IMAGE_PIXELS is not None and wide * tall > Image.MAX_IMAGE_PIXELS:
            size = f"{image.width} x {image.height}"
            raise ValueError(f"its {size} pixels are too narrow to be scaled to {wide} x {tall}")
        image = converted(image, self.channels)
        if image.size != wanted:
            image = image.resize(wanted, Image.Resampling.BILINEAR)
        left, top = round((wanted[0] - width) / 2), round((wanted[1] - height) / 2)
        return pil_to_tensor(image.crop((left, top, left + width, top + height))).to(torch.uint8)


def covering(height: int, width: int, least: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture scaled so that it just covers `least`, rounded as torchvision's Resize does."""
    if least[0] * width < least[1] * height:
        return max(least[0], least[1] * height // width), least[1]
    return least[0], max(least[1], least[0] * width // height)


def converted(image: Image.Image, channels: int) -> Image.Image:
    """A picture as RGB or grey (see `Preparation`). ValueError for pixels of 32 bits."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in UNCONVERTIBLE:
        raise ValueError(f"its pixels have mode {image.mode} (32 bits), of which black and white are not known")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may have a transparent colour
    return image.convert(MODES[channels])


def read_picture(path: Path, prepare: Preparation, *, key: str) -> Tensor:
    """The sample of a file. Raises ConfigError, naming the file, for one that is not a readable image."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return prepare(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(key, str(path), f"not a readable image: {error}") from error


def checked_size(size: object, *, key: str = "data.size") -> tuple[int, int]:
    """Height and width from one number or two. Raises ConfigError."""
    sides: list[Any] = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(key, size, "pixels a side, or [height, width]")
    return sides[0], sides[1]
