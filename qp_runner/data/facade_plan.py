"""The plan of a generated façade: the rectangles it consists of, drawn at random."""

from dataclasses import dataclass

import numpy as np

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom; the whole picture is (0, 0, 1, 1)


@dataclass(frozen=True)
class Plan:
    """The rectangles of a façade by kind. Lengths are shares of the picture's edge."""

    wall: Rectangle
    roof: Rectangle
    cornice: Rectangle | None
    windows: tuple[Rectangle, ...]
    doors: tuple[Rectangle, ...]
    balconies: tuple[Rectangle, ...]
    sills: tuple[Rectangle, ...]


def draw_plan(random: np.random.Generator) -> Plan:
    """A façade with a roof, two to four floors of two to five windows, a door, perhaps balconies and a cornice."""
    left, right = random.uniform(0.03, 0.12), random.uniform(0.88, 0.97)
    roof_top = random.uniform(0.04, 0.12)
    top = roof_top + random.uniform(0.08, 0.16)
    with_cornice = random.random() < 0.5
    cornice = (left - 0.02, top, right + 0.02, top + 0.035) if with_cornice else None
    floors, columns = int(random.integers(2, 5)), int(random.integers(2, 6))
    first = top + (0.06 if with_cornice else 0.03)
    height, width = (0.98 - first) / floors, (right - left - 0.04) / columns
    share = random.uniform(0.45, 0.65), random.uniform(0.5, 0.68)
    door_column = int(random.integers(columns))
    balcony_floor = int(random.integers(0, floors)) if random.random() < 0.75 else -1
    windows: list[Rectangle] = []
    doors: list[Rectangle] = []
    balconies: list[Rectangle] = []
    sills: list[Rectangle] = []
    for floor in range(floors):
        for column in range(columns):
            middle = left + 0.02 + (column + 0.5) * width
            half = share[0] * width / 2
            upper = first + floor * height + 0.15 * height
            if floor == floors - 1 and column == door_column:
                doors.append((middle - 1.15 * half, upper, middle + 1.15 * half, 0.985))
                continue
            lower = upper + share[1] * height
            windows.append((middle - half, upper, middle + half, lower))
            if floor == balcony_floor and floor < floors - 1:
                balconies.append((middle - 1.3 * half, lower - 0.35 * share[1] * height, middle + 1.3 * half, lower))
            else:
                sills.append((middle - 1.2 * half, lower, middle + 1.2 * half, lower + 0.018))
    return Plan(
        (left, top, right, 0.985),
        (left - 0.03, roof_top, right + 0.03, top),
        cornice,
        *(tuple(each) for each in (windows, doors, balconies, sills)),
    )
