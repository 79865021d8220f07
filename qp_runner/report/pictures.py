"""The networks' outputs for a few samples, by schedule, as images for the page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from qp_runner.masking import masked
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


def subjects(rows: Sequence[Row], pictures: Pictures) -> tuple[list[Subject], list[str]]:
    """All samples with pictures, each with the pictures of every schedule's first seed; and what can't be read.

    A picture's name is `sample__left__middle__right`, or the sample alone.
    """
    bad: list[str] = []
    of_row = [(row, _tolerant(row, pictures, bad)) for row in rows if row.run_ids]
    names = dict.fromkeys(name for _, found in of_row for name in found)
    subjects = []
    for name in list(names)[:SUBJECTS]:
        title, *parts = (part.replace("_", " ").strip() for part in name.split("__"))
        shown = [_shown(row, name, found[name], bad) for row, found in of_row if name in found]
        subjects.append(Subject(title, tuple(parts), tuple(each for each in shown if each is not None)))
    return [subject for subject in subjects if subject.shown], bad


def _tolerant(row: Row, pictures: Pictures, bad: list[str]) -> Mapping[str, bytes]:
    """The pictures of a row; none, and a line for the reader, where they can't be read."""
    try:
        return pictures(row.run_ids[0])
    except Exception as error:
        bad.append(f"{row.schedule}, run {row.run_ids[0]}: {masked(str(error))}")
        return {}


def _shown(row: Row, name: str, png: bytes, bad: list[str]) -> Shown | None:
    try:
        with Image.open(io.BytesIO(png)) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # Pillow raises many kinds for a file that is empty, cut off or something else
        bad.append(f"{row.schedule}, run {row.run_ids[0]}, {name}.png: {type(error).__name__}")
        return None
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Shown(row, uri, image.width, image.height)
