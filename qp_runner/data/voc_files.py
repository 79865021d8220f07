"""Reading Pascal VOC's layout: lists of images, annotations, images."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from qp_runner.data.image_files import SUFFIXES, image_size
from qp_runner.errors import ConfigError

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """An annotated object: its class, and its box as (left, top, right, bottom) in pixels.

    VOC counts pixels from 1 and its boxes include their last pixels: `xmin` 1 and `xmax` 10 become 0.0 and 10.0.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocImage:
    """An image file, its size (h, w) and its objects."""

    name: str
    path: Path
    size: tuple[int, int]
    objects: tuple[VocObject, ...]


def devkit(root: str | Path) -> Path:
    """The folder of the sets: `root/VOCdevkit` if it exists, else `root`."""
    place = Path(root).expanduser()
    inside = place / "VOCdevkit"
    return inside if inside.is_dir() else place


def read_list(root: Path, entry: str) -> list[VocImage]:
    """The images of a list with their annotations.

    Args:
        root: the folder of the sets.
        entry: `VOC2007/trainval` is ROOT/VOC2007/ImageSets/Main/trainval.txt; `train` is ROOT/ImageSets/Main/train.txt.

    Raises:
        ConfigError: missing or unreadable files.
    """
    folder, _, name = entry.rpartition("/")
    place = root / folder
    index = place / "ImageSets" / "Main" / f"{name}.txt"
    if not index.is_file():
        raise ConfigError("data.root", str(root), f"has no {index.relative_to(root)} ({index.resolve()}); {expected()}")
    names = [line.split()[0] for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise ConfigError("data.root", str(root), f"{index} names no images")
    files = _files(place / "JPEGImages")
    _all_there(index, [name for name in names if name not in files], what=f"image in {place / 'JPEGImages'}")
    annotations = {name: place / "Annotations" / f"{name}.xml" for name in names}
    lacking = [name for name, path in annotations.items() if not path.is_file()]
    _all_there(index, lacking, what=f"annotation in {place / 'Annotations'}")
    return [_image(name, files[name], annotations[name]) for name in names]


def expected() -> str:
    """The layout, in words."""
    return "VOC's layout is SET/ImageSets/Main/LIST.txt, SET/Annotations/NAME.xml and SET/JPEGImages/NAME.jpg"


def _files(folder: Path) -> dict[str, Path]:
    """The images of a folder by name without suffix; `.jpg` has precedence."""
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return {path.stem: path for path in sorted(found, key=lambda path: (path.suffix.lower() == ".jpg", path.name))}


def _all_there(index: Path, lacking: list[str], *, what: str) -> None:
    if lacking:
        names = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        raise ConfigError("data.root", str(index), f"names {len(lacking)} without an {what}: {names}")


def _image(name: str, path: Path, annotation: Path) -> VocImage:
    size = image_size(path, key="data.root")
    try:
        root = ElementTree.parse(annotation).getroot()
    except ElementTree.ParseError as error:
        raise ConfigError("data.root", str(annotation), f"not a readable annotation: {error}") from error
    return VocImage(name, path, size, tuple(map(_object, root.iter("object"))))


def _object(element: ElementTree.Element) -> VocObject:
    """An object; missing numbers of its box are NaN."""
    left, top, right, bottom = (_number(element.findtext(f"bndbox/{edge}")) for edge in EDGES)
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return VocObject((element.findtext("name") or "").strip(), (left - 1, top - 1, right, bottom), difficult)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def usable_box(image: VocImage, thing: VocObject, reasons: Counter[str]) -> tuple[float, float, float, float] | None:
    """An object's box clipped to the image; None for an unusable one, whose reason is counted in `reasons`.

    Boxes with `xmax` ≤ `xmin` or `ymax` ≤ `ymin` are degenerate.
    """
    left, top, right, bottom = thing.box
    height, width = image.size
    if any(edge != edge for edge in thing.box):
        reasons["objects without a box"] += 1
        return None
    if right - left <= 1 or bottom - top <= 1:
        reasons["objects with a degenerate box"] += 1
        return None
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        reasons["objects outside their image"] += 1
        return None
    return cut
