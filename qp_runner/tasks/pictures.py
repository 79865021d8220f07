"""Sample pictures: images side by side, and images with boxes."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

GAP = 4  # white pixels between images
COLORS = ("red", "lime", "cyan", "yellow", "magenta", "orange", "white", "deepskyblue")


def side_by_side(images: Iterable[Tensor]) -> Tensor:
    """uint8 images [3, h, w] of equal height as one image, from left to right with white gaps; on the CPU."""
    parts: list[Tensor] = []
    for image in images:
        parts += [torch.full((3, image.shape[1], GAP), 255, dtype=torch.uint8), image.cpu()]
    return torch.cat(parts[1:], dim=2)


def with_boxes(image: Tensor, boxes: Tensor, *, labels: Sequence[int], texts: Sequence[str]) -> Tensor:
    """A uint8 image [3, h, w] with boxes [k, 4], each with its text and in the colour of its label (from 1)."""
    if not labels:
        return image
    colors = [COLORS[(label - 1) % len(COLORS)] for label in labels]
    drawn: Tensor = draw_bounding_boxes(image, boxes, labels=list(texts), colors=colors, width=2)
    return drawn
