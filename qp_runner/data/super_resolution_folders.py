"""Super-resolution from folders of images, such as T91 (Yang et al. 2010) and Set5 (Bevilacqua et al. 2012)."""

from collections.abc import Sequence
from pathlib import Path

from qp_runner.data.image_files import image_paths, read_image
from qp_runner.data.super_resolution import (
    Photograph,
    SuperResolutionData,
    at_two_resolutions,
    check_patches,
    patches,
)
from qp_runner.errors import ConfigError

EVERY = 10  # every tenth training image is held out if there are no validation images
HELP = "set data.train and data.eval to folders of images; T91 and Set5 come with many super-resolution code bases"


def super_resolution_folders(
    *,
    train: str,
    evaluation: str,
    val: str | None = None,
    scale: int = 3,
    patch: int = 17,
    stride: int = 13,
) -> SuperResolutionData:
    """Folders of images of any number and size; grey images become RGB.

    Args:
        train: the folder of training images.
        evaluation: the folder of test images.
        val: the folder of validation images. None: every tenth training image, in the order of names, is held out (T91:
            9 of 91), so that schedules can be chosen without looking at the test images.
        scale: 2, 3 or 4.
        patch: low-resolution pixels a side of a training patch.
        stride: low-resolution pixels from one patch to the next. With 13, T91's 82 images give 2401 patches of
            17 pixels at ×3. All patches are kept in memory: 1.2 kB · (1 + scale²) each, for 17 pixels.

    Raises:
        ConfigError: no such folder, no images, an image that can't be read or is smaller than a patch, an impossible
            scale, patch or stride.
    """
    check_patches(scale=scale, patch=patch, stride=stride)
    train_paths, val_paths = _split(train, val)

    def load(paths: Sequence[Path], key: str) -> tuple[Photograph, ...]:
        return tuple(_load(path, key=key, scale=scale, patch=patch) for path in paths)

    return SuperResolutionData(
        train=patches(load(train_paths, "data.train"), scale=scale, size=patch, stride=stride),
        val=load(val_paths, "data.train" if val is None else "data.val"),
        test=load(_paths(evaluation, "data.eval"), "data.eval"),
        scale=scale,
    )


def _split(train: str, val: str | None) -> tuple[list[Path], list[Path]]:
    """Training and validation images."""
    paths = _paths(train, "data.train")
    if val is not None:
        return paths, _paths(val, "data.val")
    held_out = paths[EVERY - 1 :: EVERY] or paths[-1:]
    kept = [path for path in paths if path not in held_out]
    if not kept:
        raise ConfigError("data.train", train, "needs two images at least, one for validation; or set data.val")
    return kept, held_out


def _paths(folder: str, key: str) -> list[Path]:
    try:
        return image_paths(folder, key=key)
    except ConfigError as error:
        raise ConfigError(error.key, error.value, f"{error.allowed}; {HELP}") from error


def _load(path: Path, *, key: str, scale: int, patch: int) -> Photograph:
    rgb = read_image(path, key=key)
    height, width = rgb.shape[1:]
    if min(height, width) < patch * scale:
        need = f"{patch * scale}×{patch * scale}, a patch of {patch} pixels at ×{scale}"
        raise ConfigError(key, str(path), f"an image of {width}×{height} pixels is too small: it must hold {need}")
    return at_two_resolutions(path.stem, rgb, scale=scale)
