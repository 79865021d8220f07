import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.tasks.average_precision import voc_average_precisions


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def ranked(detections, label):
    """All detections of a class as (score, image, box), the surest first; sorting is stable."""
    found = [
        (score, image, box)
        for image, each in enumerate(detections)
        for box, name, score in zip(*(each[key].tolist() for key in ("boxes", "labels", "scores")), strict=True)
        if name == label
    ]
    return sorted(found, key=lambda entry: -entry[0])


def slow_average_precision(detections, targets, label, iou):
    """The protocol word for word: one detection after the other, then one recall after the other."""
    objects = sum(int(((t["labels"] == label) & ~t["difficult"]).sum()) for t in targets)
    taken, right, wrong, points = set(), 0, 0, []
    for _, image, box in ranked(detections, label):
        there = targets[image]
        overlaps = [
            overlap(box, other) if name == label else -1.0
            for other, name in zip(there["boxes"].tolist(), there["labels"].tolist(), strict=True)
        ]
        best = overlaps.index(max(overlaps)) if overlaps else None
        hit = best is not None and overlaps[best] >= iou
        if hit and there["difficult"][best]:
            continue
        if hit and (image, best) not in taken:
            taken.add((image, best))
            right += 1
        else:
            wrong += 1
        points.append((right / max(objects, 1), right / (right + wrong)))
    reached = [step / objects - 1e-12 for step in range(1, objects + 1)]
    area = sum(max((precision for recall, precision in points if recall >= step), default=0.0) for step in reached)
    return area / objects if objects else None


def boxes_of(draw, count):
    corner = st.integers(0, 6)
    side = st.integers(1, 5)
    rows = [[draw(corner), draw(corner), draw(side), draw(side)] for _ in range(count)]
    return torch.tensor([[x, y, x + w, y + h] for x, y, w, h in rows], dtype=torch.float32).view(-1, 4)


@st.composite
def images(draw):
    detections, targets = [], []
    for _ in range(draw(st.integers(1, 3))):
        guesses, things = draw(st.integers(0, 6)), draw(st.integers(0, 4))
        label, scores = st.integers(1, 2), st.sampled_from([0.1, 0.5, 0.5, 0.9])
        detections.append(
            {
                "boxes": boxes_of(draw, guesses),
                "labels": torch.tensor([draw(label) for _ in range(guesses)], dtype=torch.int64),
                "scores": torch.tensor([draw(scores) for _ in range(guesses)]),
            }
        )
        targets.append(
            {
                "boxes": boxes_of(draw, things),
                "labels": torch.tensor([draw(label) for _ in range(things)], dtype=torch.int64),
                "difficult": torch.tensor([draw(st.booleans()) for _ in range(things)], dtype=torch.bool),
            }
        )
    return detections, targets


@given(images(), st.sampled_from([0.3, 0.5]))
@settings(max_examples=200)
def test_it_agrees_with_the_protocol_word_for_word(drawn, iou):
    detections, targets = drawn
    found = voc_average_precisions(detections, targets, classes=3, iou=iou)
    for label, value in enumerate(found, start=1):
        expected = slow_average_precision(detections, targets, label, iou)
        assert (value is None) == (expected is None)
        if value is not None:
            assert value == pytest.approx(expected)


def target(boxes, difficult=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    marks = torch.zeros(len(boxes), dtype=torch.bool) if difficult is None else torch.tensor(difficult)
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "difficult": marks}


def detection(boxes, scores):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "scores": torch.tensor(scores)}


A, B, FAR = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]


@pytest.mark.parametrize(
    ("found", "there", "expected"),
    [
        (detection([A, B], [0.9, 0.8]), target([A, B]), 1.0),
        (detection([A, FAR, B], [0.9, 0.8, 0.7]), target([A, B]), (1 + 2 / 3) / 2),
        (detection([A, A], [0.9, 0.8]), target([A, B]), 0.5),  # the second one on A is wrong, after all the recall
        (detection([A, B], [0.9, 0.8]), target([A, B], [True, False]), 1.0),  # neither right nor wrong
        (detection([A, A, B], [0.9, 0.8, 0.7]), target([A, B], [True, False]), 1.0),  # however many
        (detection([], []), target([A]), 0.0),
        (detection([A], [0.9]), target([]), None),
        (detection([A], [0.9]), target([A], [True]), None),
    ],
)
def test_plain_cases(found, there, expected):
    [value] = voc_average_precisions([found], [there], classes=1)
    assert value == (None if expected is None else pytest.approx(expected))


def test_all_points_is_near_cocos_sampling_of_101_recalls():
    """On many objects the two interpolations differ by little; torchmetrics is an independent implementation."""
    from torchmetrics.detection import MeanAveragePrecision

    random = np.random.default_rng(0)
    detections, targets = [], []
    for _ in range(120):
        corners = random.uniform(0, 80, (4, 2))
        boxes = np.concatenate([corners, corners + random.uniform(8, 20, (4, 2))], axis=1)
        moved = boxes + random.normal(0, 2.5, boxes.shape)
        targets.append(target(boxes.tolist()))
        detections.append(detection(moved.tolist(), random.uniform(0, 1, 4).tolist()))
    [value] = voc_average_precisions(detections, targets, classes=1)
    metric = MeanAveragePrecision(iou_thresholds=[0.5])
    metric.update(detections, [{k: v for k, v in t.items() if k != "difficult"} for t in targets])
    assert value == pytest.approx(metric.compute()["map_50"].item(), abs=0.01)
    assert 0.2 < value < 0.95
