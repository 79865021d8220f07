"""A square picture to paint façades on. Lengths are shares of its edge."""

import numpy as np

from qp_runner.data.facade_plan import Rectangle

Picture = np.ndarray  # float64 [h, w, 3], 0 black to 255 white


class Canvas:
    """A square picture with the coordinates of its pixels' centres."""

    def __init__(self, size: int) -> None:
        self.centres = (np.arange(size) + 0.5) / size
        self.x, self.y = np.meshgrid(self.centres, self.centres)
        self.pixels: Picture = np.zeros((size, size, 3))

    def part(self, rectangle: Rectangle) -> tuple[slice, slice]:
        """Rows and columns of the pixels in a rectangle."""
        left, top, right, bottom = self.centres.searchsorted(rectangle)
        return slice(top, bottom), slice(left, right)

    def fill(self, rectangle: Rectangle, colour: object) -> None:
        """Paints a rectangle with one colour, or with the pixels of another picture."""
        rows, columns = self.part(rectangle)
        source = np.asarray(colour)
        self.pixels[rows, columns] = source if source.ndim == 1 else source[rows, columns]

    def fill_roof(self, rectangle: Rectangle, colour: object) -> None:
        """Paints a trapezoid: the rectangle with sides that lean inward toward the top, by half its height."""
        left, top, right, bottom = rectangle
        lean = 0.5 * (bottom - self.y)
        inside = (self.x >= left + lean) & (self.x < right - lean) & (self.y >= top) & (self.y < bottom)
        self.pixels = np.where(inside[..., None], np.asarray(colour), self.pixels)

    def shine(self, rectangle: Rectangle, factor: float) -> None:
        """Multiplies the pixels of a rectangle: below 1 darkens, above 1 lightens."""
        self.pixels[self.part(rectangle)] *= factor


def mix(start: tuple[int, int, int], end: tuple[int, int, int], share: np.ndarray) -> Picture:
    """A mixture of two colours: `start` where the share is 0, `end` where it is 1."""
    part = share[..., None]
    return (1 - part) * np.asarray(start, dtype=float) + part * np.asarray(end, dtype=float)


def stripes(position: np.ndarray, period: float, duty: float = 0.5) -> np.ndarray:
    """1 in the first `duty` of each period, 0 in the rest."""
    return ((position / period) % 1 < duty).astype(float)


def halved(picture: Picture) -> Picture:
    """Means of squares of 2×2 pixels."""
    size = len(picture) // 2
    blocks: Picture = picture.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    return blocks
