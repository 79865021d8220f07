"""From an image as people have it to what a classifier takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImagePreprocessing:
    """Converts, scales, cuts and normalises images. It is plain data, so that a file of weights can hold it.

    Attributes:
        channels: 1 for grey images, 3 for colours; others are converted.
        size: height and width that the network takes.
        mean, std: by channel, where black is 0 and white 1.
        spare: an image is scaled so that it just covers `size` and this many more pixels, then cut to its middle.
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
            upright = ImageOps.exif_transpose(image)
            pixels: Tensor = transforms.pil_to_tensor(self._cut(upright.convert(MODES[self.channels])))
            return pixels
        if image.dtype != torch.uint8 or image.dim() != 3:
            raise ValueError(f"images are PIL's, or uint8 [c, h, w]; this is {image.dtype} {[*image.shape]}")
        if image.shape[0] != self.channels:
            to_grey = self.channels == 1
            image = transforms.rgb_to_grayscale(image) if to_grey else transforms.grayscale_to_rgb(image)
        return self._cut(image)

    def _cut(self, image: Any) -> Any:
        """A picture or its pixels, scaled and cut to `size`."""
        height, width = transforms.get_size(image)
        if (height, width) == self.size:
            return image
        least = [side + self.spare for side in self.size]
        if least[0] * width < least[1] * height:  # rounded as torchvision's Resize does
            wanted = [max(least[0], least[1] * height // width), least[1]]
        else:
            wanted = [least[0], max(least[1], least[0] * width // height)]
        return transforms.center_crop(transforms.resize(image, wanted, antialias=True), list(self.size))

    def record(self) -> dict[str, Any]:
        """As plain data, from which `from_record` makes the same."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ImagePreprocessing":
        """The inverse of `record`, also after a way through JSON."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**known)
