"""The networks' outputs for a few samples, by schedule, as images for the page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from qp_runner.report.rows import Row

Pictures = Callable[[str], Mapping[str, bytes]]
"""From a run's identifier to the PNG files of its pictures, by name."""

SUBJECTS = 6  # samples shown in each section
WIDEST = 1200  # pixels; wider pictures are scaled down
QUALITY = 92  # of the JPEG copies in the page; artifacts are lossless


@dataclass(frozen=True)
class Shown:
    """A schedule's picture as a data URI, with its size in pixels."""

    row: Row
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Subject:
    """One sample: its name, the parts of its pictures from left to right (if named), a picture for each schedule."""

    title: str
    parts: tuple[str, ...]
    shown: tuple[Shown, ...]


def subjects(rows: Sequence[Row], pictures: Pictures) -> list[Subject]:
    """All samples with pictures, each with the pictures of every schedule's first seed.

    A picture's name is `sample__left__middle__right`, or the sample alone.
    """
    of_row = [(row, pictures(row.run_ids[0])) for row in rows if row.run_ids]
    names = dict.fromkeys(name for _, found in of_row for name in found)
    subjects = []
    for name in list(names)[:SUBJECTS]:
        title, *parts = (part.replace("_", " ").strip() for part in name.split("__"))
        shown = tuple(_shown(row, found[name]) for row, found in of_row if name in found)
        subjects.append(Subject(title, tuple(parts), shown))
    return subjects


def _shown(row: Row, png: bytes) -> Shown:
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Shown(row, uri, image.width, image.height)
