"""Generated shapes on textured backgrounds, with exact boxes: the embedded default of detection."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from qp_runner.data.detection import DetectionData, Scene
from qp_runner.errors import ConfigError

CLASSES = ("circle", "square", "triangle", "star")
FINE = 4  # shapes are drawn at this scale and averaged down, for smooth edges
LEAST_SEEN = 0.4  # of every other object, at least this share stays visible when one is placed
DIFFICULT = 0.6  # below this visible share an object is marked difficult
TURN = 0.35  # largest rotation, radians
TRIES = 20  # positions tried for an object before it is dropped

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]  # [FINE · size, FINE · size]
_CORNERS = {"circle": 64, "square": 4, "triangle": 3, "star": 10}


def shapes(
    *, train: int = 480, val: int = 80, test: int = 240, size: int = 64, objects: int = 4, seed: int = 0
) -> DetectionData:
    """Images of one to `objects` filled, slightly rotated, overlapping shapes on noise, gradients and stripes.

    An object's box encloses its whole outline (to a quarter of a pixel), even if another object covers a part of it,
    cut at the image's edge. An object of which less than 60 % is visible is marked difficult.

    Args:
        train: number of images.
        val: likewise.
        test: likewise.
        size: of the square images, in pixels; shapes are about 1/4 to 1/2 of it wide.
        objects: the most in an image.
        seed: of the data set, independent of the run's seed.

    Raises:
        ConfigError: numbers that are too small.
    """
    for key, value, least in (("size", size, 32), ("objects", objects, 1)):
        if value < least:
            raise ConfigError(f"data.factory.{key}", value, f"at least {least}")
    splits = {
        split: tuple(
            _scene(f"{split} {index}", np.random.default_rng([seed, number, index]), size=size, objects=objects)
            for index in range(count)
        )
        for number, (split, count) in enumerate({"train": train, "val": val, "test": test}.items())
    }
    return DetectionData(**splits, classes=CLASSES, flip=True)  # type: ignore[arg-type]


def _scene(name: str, random: np.random.Generator, *, size: int, objects: int) -> Scene:
    picture = _background(random, size)
    labels: list[int] = []
    masks: list[Mask] = []
    top = np.full((FINE * size, FINE * size), -1)  # the number of the visible object at each fine pixel
    for _ in range(int(random.integers(1, objects + 1))):
        for _ in range(TRIES):
            label, mask = _shape(random, size)
            covered = np.where(mask, len(masks), top)
            if all(_seen(covered, i, before) >= LEAST_SEEN for i, before in enumerate(masks)):
                picture = _painted(picture, mask, random)
                labels, masks, top = [*labels, label], [*masks, mask], covered
                break
    difficult = [_seen(top, i, mask) < DIFFICULT for i, mask in enumerate(masks)]
    return Scene(
        name=name,
        image=torch.from_numpy(picture.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous(),
        size=(size, size),
        boxes=torch.tensor([_box(mask) for mask in masks], dtype=torch.float32),
        labels=torch.tensor(labels),
        difficult=torch.tensor(difficult),
    )


def _seen(top: NDArray[np.int64], number: int, mask: Mask) -> float:
    """The visible share of an object."""
    return float((top == number).sum() / mask.sum())


def _box(mask: Mask) -> list[float]:
    """The bounding box of a shape's fine pixels, in pixels: left, top, right, bottom."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0] / FINE, rows[0] / FINE, (columns[-1] + 1) / FINE, (rows[-1] + 1) / FINE]


def _shape(random: np.random.Generator, size: int) -> tuple[int, Mask]:
    """The label and the fine pixels of a random shape, mostly inside the image."""
    label = int(random.integers(len(CLASSES)))
    radius = size * random.uniform(1 / 8, 1 / 4)
    middle = random.uniform(radius / 2, size - radius / 2, size=2)
    count = _CORNERS[CLASSES[label]]
    upright = math.pi / 4 if CLASSES[label] == "square" else -math.pi / 2
    angles = upright + random.uniform(-TURN, TURN) + np.arange(count) * (2 * math.pi / count)
    radii = np.full(count, radius)
    if CLASSES[label] == "star":
        radii[1::2] *= 0.42
    corners = middle + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # [count, 2] as (x, y)
    canvas = Image.new("1", (FINE * size, FINE * size))
    ImageDraw.Draw(canvas).polygon([(FINE * x - 0.5, FINE * y - 0.5) for x, y in corners.tolist()], fill=1)
    return label + 1, np.asarray(canvas)


def _background(random: np.random.Generator, size: int) -> Floats:
    """Two colours mixed by noise of several scales and stripes, [size, size, 3] in 0..255."""
    rows, columns = np.mgrid[:size, :size] / size
    field = np.zeros((size, size))
    for cells in (3, 8, 24):
        field += _smooth(random, cells, size) / math.sqrt(cells)
    angle, waves = random.uniform(0, math.pi), random.uniform(3, 14)
    stripes = np.sin(2 * math.pi * waves * (rows * math.sin(angle) + columns * math.cos(angle)))
    field += random.uniform(0, 0.35) * stripes
    share = (field - field.min()) / (field.max() - field.min())
    first, second = random.uniform(0, 255, (2, 3))
    mixed: Floats = first + share[:, :, None] * (second - first) + random.normal(0, 6, (size, size, 3))
    return mixed


def _smooth(random: np.random.Generator, cells: int, size: int) -> Floats:
    """Noise [size, size] in −1..1 that changes over 1/cells of the image."""
    coarse = Image.fromarray(random.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _painted(picture: Floats, mask: Mask, random: np.random.Generator) -> Floats:
    """The picture with a filled shape, in a slightly uneven colour that differs from the background."""
    size = len(picture)
    cover = mask.reshape(size, FINE, size, FINE).mean(axis=(1, 3))[:, :, None]
    under = (picture * cover).sum(axis=(0, 1)) / cover.sum()
    colour = random.uniform(0, 255, 3)
    while np.abs(colour - under).max() < 60:  # until it differs from what is below
        colour = random.uniform(0, 255, 3)
    fill = colour + 25 * _smooth(random, 6, size)[:, :, None] + random.normal(0, 6, picture.shape)
    painted: Floats = picture * (1 - cover) + fill * cover
    return painted
