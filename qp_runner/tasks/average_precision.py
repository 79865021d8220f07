"""Average precision as Pascal VOC measures it (Everingham et al. 2010, in its form of 2010 and later: all points)."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

IOU = 0.5


def voc_average_precisions(
    detections: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    *,
    classes: int,
    iou: float = IOU,
) -> list[float | None]:
    """The average precision of each class, in 0..1; None for a class without objects.

    A detection matches the object of its class and image that it overlaps most, if their intersection over union is at
    least `iou`. The best-scored match of an object is right; its other matches, and detections without a match, are
    wrong; those that match a difficult object are ignored. Equal scores keep the order of images, then of an image's
    detections. The average precision is the area below the curve of precision over recall, where the precision at a
    recall is the best one at this or a higher recall.

    Args:
        detections: for each image `boxes` [k, 4], `labels` [k] from 1, `scores` [k]; on any device.
        targets: for each image `boxes`, `labels` and `difficult` [k] (bool).
        classes: number of classes.
        iou: the least overlap of a match.
    """
    found = (_hits(detections, targets, label=label, iou=iou) for label in range(1, classes + 1))
    return [_average_precision(scores, places, objects) if objects else None for scores, places, objects in found]


def _hits(
    detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]], *, label: int, iou: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """For a class: its detections' scores, the object that each matches (−1: none, −2: a difficult one), and the number
    of its objects that are not difficult.
    """
    scores, places, first, findable = [], [], 0, 0
    for found, target in zip(detections, targets, strict=True):
        of_class = target["labels"] == label
        boxes, difficult = target["boxes"][of_class].cpu(), target["difficult"][of_class].cpu().numpy()
        chosen = found["labels"] == label
        guesses = found["boxes"][chosen].cpu()
        scores.append(found["scores"][chosen].float().cpu().numpy())
        place = np.full(len(guesses), -1)
        if len(boxes) and len(guesses):
            overlap, nearest = (part.numpy() for part in box_iou(guesses, boxes).max(dim=1))
            on = overlap >= iou
            place[on] = np.where(difficult[nearest[on]], -2, first + nearest[on])
        places.append(place)
        first, findable = first + len(boxes), findable + int((~difficult).sum())
    return np.concatenate(scores), np.concatenate(places), findable


def _average_precision(scores: NDArray[np.float32], places: NDArray[np.int64], objects: int) -> float:
    places = places[np.argsort(-scores, kind="stable")]
    places = places[places != -2]
    right = np.zeros(len(places), dtype=bool)
    _, firsts = np.unique(places, return_index=True)
    right[firsts] = True
    right &= places >= 0
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this or a higher recall
    return float(falling[right].sum() / objects)  # each object found raises the recall by 1/objects
