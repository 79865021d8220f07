"""From an image as people have it to what a classifier takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImagePreprocessing:
    """Converts, resizes, crops and normalises images. It is plain data, so that a file of weights can hold it.

    Attributes:
        channels: 1 for grey images, 3 for colours; others are converted.
        size: height and width that the network takes.
        mean, std: by channel, where black is 0 and white 1.
        resize: the shorter side before the centre is cropped; None: the whole image is resized to `size`.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None

    def __call__(self, images: Image.Image | Tensor | Sequence[Image.Image | Tensor]) -> Tensor:
        """A batch [n, channels, height, width], float32, of one image or several.

        Images are PIL's, or uint8 tensors [c, h, w] (several also as [n, c, h, w]). Raises ValueError for others.
        """
        if isinstance(images, Image.Image) or (isinstance(images, Tensor) and images.dim() == 3):
            images = [images]
        pixels = torch.stack([self._pixels(each) for each in images])
        mean, std = (torch.tensor(each, device=pixels.device).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std

    def _pixels(self, image: Image.Image | Tensor) -> Tensor:
        """One image as uint8 [channels, height, width]."""
        pixels = self._converted(image) if isinstance(image, Image.Image) else image
        if pixels.dtype != torch.uint8 or pixels.dim() != 3:
            raise ValueError(f"images are PIL's, or uint8 [c, h, w]; this is {pixels.dtype} {[*pixels.shape]}")
        if pixels.shape[0] != self.channels:
            to_grey = self.channels == 1
            pixels = transforms.rgb_to_grayscale(pixels) if to_grey else transforms.grayscale_to_rgb(pixels)
        if tuple(pixels.shape[1:]) == self.size:
            return pixels
        side = list(self.size) if self.resize is None else [self.resize]
        resized: Tensor = transforms.center_crop(transforms.resize(pixels, side, antialias=True), list(self.size))
        return resized

    def _converted(self, image: Image.Image) -> Tensor:
        pixels: Tensor = transforms.pil_to_tensor(image.convert(MODES.get(self.channels, image.mode)))
        return pixels

    def record(self) -> dict[str, Any]:
        """As plain data, from which `from_record` makes the same."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ImagePreprocessing":
        """The inverse of `record`, also after a way through JSON."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**known)
