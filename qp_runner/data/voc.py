"""Pascal VOC, and any data set in its layout."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch

from qp_runner.data.detection import DetectionData, Scene, scaled_size
from qp_runner.data.splits import held_out
from qp_runner.data.voc_files import VocImage, devkit, expected, read_list, usable_box
from qp_runner.errors import ConfigError
from qp_runner.warned import warn_once

_DOWNLOADS = {"VOC2007/trainval": ("2007", "trainval"), "VOC2007/test": ("2007", "test"),
              "VOC2012/trainval": ("2012", "trainval")}  # fmt: skip

log = logging.getLogger(__name__)


def voc_layout(
    *,
    root: str,
    train: Sequence[str] = ("train",),
    val: Sequence[str] | None = ("val",),
    test: Sequence[str] = ("test",),
    classes: Sequence[str] | None = None,
    size: int | None = None,
    max_size: int | None = None,
    holdout: int = 0,
    flip: bool = True,
    cache: bool = True,
    download: bool = False,
) -> DetectionData:
    """A data set in VOC's layout.

    Objects marked difficult are left out of training and ignored in evaluation. Objects with degenerate or missing
    boxes, outside their image, or of an unlisted class are dropped, and counted in a warning. Images without objects
    are background.

    Args:
        root: the folder of the sets, or of VOCdevkit, which contains them.
        train: lists of images, `SET/LIST` or `LIST`, which are concatenated.
        val: likewise.
        test: likewise.
        classes: names in the order of their labels. None: all names in the annotations, sorted.
        size: length to which the shorter side is scaled. None: images are not scaled.
        max_size: limit of the longer side.
        holdout: number of training images for validation if `val` is None, always the same.
        flip: mirror training images with probability ½.
        cache: keep the scaled images in memory (3 · h · w bytes each); otherwise read them from disk at every use.
        download: download VOC 2007 and 2012 with torchvision if they are missing.

    Raises:
        ConfigError: missing or unreadable files, impossible numbers, no classes.
    """
    for key, value in (("size", size), ("max_size", max_size)):
        if value is not None and value < 1:
            raise ConfigError(f"data.{key}", value, "at least 1, or null")
    if download:
        _download(Path(root), [*train, *(val or ()), *test])
    place = devkit(root)
    if not place.is_dir():
        raise ConfigError("data.root", root, f"no such folder ({place.resolve()}); {expected()}; {_how_to_get()}")
    images = {
        split: _lists(place, entries) for split, entries in (("train", train), ("val", val or ()), ("test", test))
    }
    if val is None:
        images["train"], images["val"] = _held_out(images["train"], holdout)
    names = tuple(classes) if classes is not None else _named(images)
    left_out = Counter[str]()

    def scene(image: VocImage) -> Scene:
        scaled = scaled_size(image.size, shorter=size, longer=max_size)
        found = _scene(image, size=scaled, classes=names, left_out=left_out)
        return found.held() if cache else found

    splits = {split: tuple(map(scene, listed)) for split, listed in images.items()}
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        warn_once(log, f"{place}: left out {reasons}")
    return DetectionData(**splits, classes=names, flip=flip)  # type: ignore[arg-type]


def _scene(image: VocImage, *, size: tuple[int, int], classes: tuple[str, ...], left_out: Counter[str]) -> Scene:
    """An image, scaled to a size, with its usable objects; counts the others in `left_out`."""
    boxes, labels, difficult = [], [], []
    for thing in image.objects:
        if thing.name not in classes:
            left_out[f"objects of class {thing.name or '(no name)'}"] += 1
            continue
        box = usable_box(image, thing, left_out)
        if box is not None:
            boxes.append(box)
            labels.append(1 + classes.index(thing.name))
            difficult.append(thing.difficult)
    (height, width), (down, across) = size, (new / old for new, old in zip(size, image.size, strict=True))
    scaled = torch.tensor(boxes, dtype=torch.float64).view(-1, 4) * torch.tensor([across, down, across, down])
    return Scene(
        name=image.name,
        image=image.path,
        size=size,
        boxes=scaled.float().clamp(max=torch.tensor([width, height, width, height], dtype=torch.float32)),
        labels=torch.tensor(labels, dtype=torch.int64),
        difficult=torch.tensor(difficult, dtype=torch.bool),
    )


def _lists(place: Path, entries: Sequence[str]) -> list[VocImage]:
    if isinstance(entries, str):
        raise ConfigError("data", entries, "lists of images have to be a list: [VOC2007/trainval]")
    return [image for entry in entries for image in read_list(place, entry)]


def _held_out(images: list[VocImage], count: int) -> tuple[list[VocImage], list[VocImage]]:
    if not 1 <= count < len(images):
        raise ConfigError("data.holdout", count, f"from 1 to {len(images) - 1} training images, as data.val is null")
    kept, taken = held_out(len(images), count)
    return [images[i] for i in kept.tolist()], [images[i] for i in taken.tolist()]


def _named(images: dict[str, list[VocImage]]) -> tuple[str, ...]:
    found = {thing.name for listed in images.values() for image in listed for thing in image.objects if thing.name}
    if not found:
        raise ConfigError("data.classes", None, "the annotations name no class")
    return tuple(sorted(found))


def _download(root: Path, entries: Sequence[str]) -> None:
    from torchvision.datasets import VOCDetection

    for entry in entries:
        folder, _, name = entry.rpartition("/")
        if (devkit(root) / folder / "ImageSets" / "Main" / f"{name}.txt").is_file():
            continue
        if entry not in _DOWNLOADS:
            raise ConfigError("data.download", True, f"only {', '.join(_DOWNLOADS)} can be fetched, not {entry}")
        year, image_set = _DOWNLOADS[entry]
        try:
            VOCDetection(str(root.expanduser()), year=year, image_set=image_set, download=True)
        except (URLError, OSError, RuntimeError) as error:
            raise ConfigError("data.download", True, f"{entry} can't be fetched: {error}; {_how_to_get()}") from error


def _how_to_get() -> str:
    return (
        "data.download=true fetches VOC 2007 and 2012, or unpack VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar "
        "and VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/ there"
    )
