"""Generated façades, the embedded default of both translation tasks: label maps and pictures rendered from them."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from qp_runner.data.facade_canvas import Canvas, Picture, halved, mix, stripes
from qp_runner.data.facade_plan import Plan, Rectangle, draw_plan
from qp_runner.data.translation import Domains, TranslationData
from qp_runner.data.translation_files import halves
from qp_runner.errors import ConfigError

COLOURS = {  # of the label map
    "sky": (0, 0, 100),
    "street": (60, 60, 60),
    "roof": (170, 0, 60),
    "wall": (0, 60, 255),
    "cornice": (0, 255, 220),
    "sill": (140, 255, 120),
    "window": (255, 220, 0),
    "door": (255, 110, 0),
    "balcony": (190, 60, 255),
}
NOISE = 3.0  # standard deviation of the pictures' noise, of 255


def generated_facades(
    *, size: int = 64, train: int = 200, val: int = 48, test: int = 64, seed: int = 0, flip: bool = False
) -> TranslationData:
    """Pairs of a label map (A) and a rendered façade (B), which depend on the arguments only.

    A picture follows from its label map, up to slight noise, but is more than a colour for each label: walls are brick,
    or plaster if there is a cornice; protruding parts cast shadows to the lower right; panes have frames, bars and
    reflections; railings, doors and tiles have patterns.

    Args:
        size: height and width in pixels.
        train: training pairs.
        val: validation pairs.
        test: test pairs.
        seed: of the set, independent of the run's seed.
        flip: flip training pairs with probability ½ (light then comes from the other side).

    Raises:
        ConfigError: a size below 16, a split of fewer than 2 pairs.
    """
    if size < 16:
        raise ConfigError("data.size", size, "at least 16")
    for name, count in (("train", train), ("val", val), ("test", test)):
        if count < 2:
            raise ConfigError(f"data.{name}", count, "at least 2 pairs")
    splits = {
        name: _domains(range(start, start + count), size=size, seed=seed)
        for name, start, count in (("train", 0, train), ("val", train, val), ("test", train + val, test))
    }
    return TranslationData(**splits, size=size, paired=True, flip=flip)


def generated_facades_unpaired(
    *, size: int = 64, train: int = 200, val: int = 48, test: int = 64, seed: int = 0, flip: bool = False
) -> TranslationData:
    """The same, unpaired: `train` images of each domain, of different façades. Arguments as in `generated_facades`."""
    paired = generated_facades(size=size, train=2 * train, val=val, test=test, seed=seed, flip=flip)
    return halves(paired=paired)


def _domains(numbers: Iterable[int], *, size: int, seed: int) -> Domains:
    labels, pictures = [], []
    for number in numbers:
        random = np.random.default_rng([seed, number])
        plan = draw_plan(random)
        labels.append(_as_tensor(label_map(plan, size)))
        pictures.append(_as_tensor(photograph(plan, size) + random.normal(0, NOISE, (size, size, 3))))
    return Domains(torch.stack(labels), torch.stack(pictures))


def _as_tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


def label_map(plan: Plan, size: int) -> Picture:
    """A flat colour for each part, with hard edges."""
    canvas = Canvas(size)
    canvas.pixels[:] = COLOURS["sky"]
    canvas.fill((0, 0.985, 1, 1), COLOURS["street"])
    canvas.fill_roof(plan.roof, COLOURS["roof"])
    canvas.fill(plan.wall, COLOURS["wall"])
    parts = {"window": plan.windows, "door": plan.doors, "sill": plan.sills, "balcony": plan.balconies}
    for name, rectangles in parts.items():
        for rectangle in rectangles:
            canvas.fill(rectangle, COLOURS[name])
    if plan.cornice:
        canvas.fill(plan.cornice, COLOURS["cornice"])
    return canvas.pixels


def photograph(plan: Plan, size: int) -> Picture:
    """The façade lit from the upper left, without noise."""
    canvas = Canvas(2 * size)  # halved at the end, so that thin parts are not jagged
    x, y = canvas.x, canvas.y
    canvas.pixels[:] = mix((150, 195, 240), (232, 238, 242), y)  # the sky is paler toward the bottom
    canvas.fill((0, 0.985, 1, 1), (96, 92, 90))
    tiles = 0.72 + 0.28 * stripes(y, 0.03, 0.7) * stripes(x + 0.02 * (np.floor(y / 0.03) % 2), 0.04, 0.85)
    canvas.fill_roof(plan.roof, mix((120, 70, 62), (92, 58, 60), x) * tiles[..., None])
    canvas.fill(plan.wall, _plaster(x, y) if plan.cornice else _bricks(x, y))
    _shade(canvas, plan)
    for rectangle in plan.windows:
        _window(canvas, rectangle)
    for rectangle in plan.doors:
        _door(canvas, rectangle)
    for rectangle in plan.sills:
        canvas.fill(rectangle, (205, 200, 190))
    for rectangle in plan.balconies:
        _balcony(canvas, rectangle)
    if plan.cornice:
        canvas.fill(plan.cornice, np.array((214, 205, 184)) * (0.8 + 0.2 * stripes(x, 0.05))[..., None])
    light = 1.06 - 0.10 * x - 0.14 * y**2  # fades to the lower right
    return halved(canvas.pixels * light[..., None])


def _bricks(x: np.ndarray, y: np.ndarray) -> Picture:
    row = np.floor(y / 0.05)
    mortar = np.minimum(stripes(y, 0.05, 0.82), stripes(x + 0.06 * (row % 2), 0.12, 0.92))
    return mix((206, 190, 176), (178, 84, 62), mortar) * (0.94 + 0.06 * np.sin(2.4 * row)[..., None])


def _plaster(x: np.ndarray, y: np.ndarray) -> Picture:
    joints = np.where(y[..., None] > 0.7, 0.86 + 0.14 * stripes(y, 0.075, 0.85)[..., None], 1.0)  # on the ground floor
    return mix((226, 206, 160), (206, 180, 140), x * y) * joints


def _shade(canvas: Canvas, plan: Plan) -> None:
    """Shadows on the wall, to the lower right of protruding parts."""
    eaves = (plan.wall[0], plan.wall[1], plan.wall[2], plan.wall[1] + (0.075 if plan.cornice else 0.03))
    canvas.shine(eaves, 0.62)
    for left, top, right, bottom in (*plan.balconies, *plan.sills):
        canvas.shine((left + 0.015, top + 0.015, right + 0.02, bottom + 0.03), 0.62)
    for left, top, right, bottom in (*plan.windows, *plan.doors):
        canvas.shine((left - 0.012, top - 0.012, right + 0.012, bottom), 1.14)  # a rendered frame, lighter


def _window(canvas: Canvas, rectangle: Rectangle) -> None:
    left, top, right, bottom = rectangle
    part = canvas.part(rectangle)
    u, v = (canvas.x[part] - left) / (right - left), (canvas.y[part] - top) / (bottom - top)
    canvas.pixels[part] = mix((168, 204, 226), (34, 46, 66), np.clip(0.15 + 0.8 * v + 0.35 * (u - 0.5), 0, 1))
    canvas.fill((left, top, right, top + 0.12 * (bottom - top)), (40, 44, 52))  # the lintel's shadow on the pane
    frame, middle = 0.011, (left + right) / 2
    bar = top + 0.36 * (bottom - top)
    for wood in (
        (left, top, left + frame, bottom),
        (right - frame, top, right, bottom),
        (left, bottom - frame, right, bottom),
        (middle - frame / 2, top, middle + frame / 2, bottom),
        (left, bar - frame / 2, right, bar + frame / 2),
    ):
        canvas.fill(wood, (238, 236, 228))


def _door(canvas: Canvas, rectangle: Rectangle) -> None:
    left, top, right, bottom = rectangle
    width, height = right - left, bottom - top
    part = canvas.part(rectangle)
    canvas.pixels[part] = mix((104, 62, 34), (66, 36, 22), (canvas.y[part] - top) / height)
    canvas.fill((left + 0.12 * width, top + 0.05 * height, right - 0.12 * width, top + 0.24 * height), (236, 214, 140))
    for column in (0.12, 0.56):
        for row in (0.32, 0.66):
            corner = left + column * width, top + row * height
            canvas.fill((*corner, corner[0] + 0.32 * width, corner[1] + 0.26 * height), (48, 26, 16))


def _balcony(canvas: Canvas, rectangle: Rectangle) -> None:
    left, top, right, bottom = rectangle
    part = canvas.part(rectangle)
    between_rails = stripes(canvas.x[part] - left, 0.03)[..., None] > 0
    canvas.pixels[part] = np.where(between_rails, canvas.pixels[part], (36, 36, 40))
    canvas.fill((left, top, right, top + 0.014), (28, 28, 32))
    canvas.fill((left, bottom - 0.022, right, bottom + 0.004), (190, 184, 174))
