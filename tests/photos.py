"""Folders of small photographs, cut from those in scikit-image's wheel."""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

MOTIFS = ("astronaut", "chelsea", "coffee", "rocket")


def cuts(motif: str, count: int, *, seed: int = 0) -> list[Image.Image]:
    """Pieces of a photograph, each of another size between 24 and 48 pixels a side."""
    photograph = Image.fromarray(getattr(skimage.data, motif)())
    random = np.random.default_rng([seed, MOTIFS.index(motif)])
    made = []
    for _ in range(count):
        width, height = (int(side) for side in random.integers(24, 49, 2))
        left = int(random.integers(0, photograph.width - width))
        top = int(random.integers(0, photograph.height - height))
        made.append(photograph.crop((left, top, left + width, top + height)))
    return made


def write_folder(
    root: Path, per_class: int, *, split: str = "", seed: int = 0, motifs: tuple[str, ...] = MOTIFS
) -> Path:
    """A folder for each motif, with PNG and JPEG files in turn, below `root` or a split's folder in it."""
    for motif in MOTIFS:
        folder = root / split / motif
        folder.mkdir(parents=True)
        for number, piece in enumerate(cuts(motif, per_class, seed=seed)):
            piece.save(folder / f"{number:04d}.{('png', 'jpg')[number % 2]}")
    return root
