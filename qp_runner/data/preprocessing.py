"""From an image as people have it to what a classifier takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from qp_runner.data.pictures import Preparation, covering


@dataclass(frozen=True)
class ImagePreprocessing:
    """Converts, scales, cuts and normalises images. It is plain data, so that a file of weights can hold it.

    Attributes:
        channels: 1 for grey images, 3 for colours; others are converted.
        size: height and width that the network takes.
        mean, std: by channel, where black is 0 and white 1.
        spare: an image is scaled so that it just covers `size` and this many more pixels, then cut to its middle;
            pixels (a tensor) of `size` are taken for a sample already.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spare: int = 0

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
        if isinstance(image, Image.Image):
            return Preparation(self.size, self.spare, self.channels)(image)
        if image.dtype != torch.uint8 or image.dim() != 3:
            raise ValueError(f"images are PIL's, or uint8 [c, h, w]; this is {image.dtype} {[*image.shape]}")
        pixels: Tensor = image
        if pixels.shape[0] != self.channels:
            convert = transforms.rgb_to_grayscale if self.channels == 1 else transforms.grayscale_to_rgb
            pixels = convert(pixels)
        return self._cut(pixels)

    def _cut(self, image: Tensor) -> Tensor:
        """Pixels, scaled and cut to `size`; those that have it are a sample already."""
        height, width = image.shape[1:]
        if (height, width) == self.size:
            return image
        wanted = covering(height, width, (self.size[0] + self.spare, self.size[1] + self.spare))
        scaled: Tensor = transforms.resize(image, list(wanted), antialias=True)
        return transforms.center_crop(scaled, list(self.size))

    def record(self) -> dict[str, Any]:
        """As plain data, from which `from_record` makes the same."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ImagePreprocessing":
        """The inverse of `record`, also after a way through JSON."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**known)
