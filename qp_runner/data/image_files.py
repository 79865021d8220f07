"""Images in folders, read as uint8 tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from qp_runner.data.pictures import FORMATS
from qp_runner.errors import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def image_paths(folder: str | Path, *, key: str) -> list[Path]:
    """The image files directly in a folder, sorted by name.

    Args:
        folder: the folder; subfolders are ignored.
        key: the configuration key of the folder, for errors.

    Raises:
        ConfigError: no such folder, or no images in it.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ConfigError(key, str(folder), f"no such folder ({place.resolve()})")
    paths = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConfigError(key, str(folder), f"no images in {place.resolve()}; looked for {', '.join(SUFFIXES)}")
    return paths


def read_image(path: Path, *, key: str) -> Tensor:
    """An image as RGB, uint8 [3, h, w]. Grey images get three equal channels, transparency is dropped.

    Raises:
        ConfigError: a missing file, or one that is not a readable image.
    """
    with _opened(path, key=key) as image:
        return pil_to_tensor(image.convert("RGB")).to(torch.uint8)


def image_size(path: Path, *, key: str) -> tuple[int, int]:
    """An image's height and width in pixels, from its header only. ConfigError as in `read_image`."""
    with _opened(path, key=key) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, *, key: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(key, str(path), f"not a readable image: {error}") from error
