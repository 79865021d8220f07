import pytest
import torch

from qp_runner.data.shapes import CLASSES, shapes
from qp_runner.errors import ConfigError

SMALL = {"train": 40, "val": 2, "test": 2}


@pytest.fixture(scope="module")
def data():
    return shapes(**SMALL)


def test_images_depend_on_the_data_seed_only(data):
    torch.manual_seed(5)
    again, other, fewer = shapes(**SMALL), shapes(**SMALL, seed=1), shapes(train=3, val=1, test=1)
    assert all(torch.equal(a.image, b.image) for a, b in zip(data.train, again.train, strict=True))
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(data.train, again.train, strict=True))
    assert not torch.equal(data.train[0].image, other.train[0].image)
    assert torch.equal(data.train[2].image, fewer.train[2].image)
    assert not torch.equal(data.train[0].image, data.val[0].image)


def test_there_are_several_objects_of_every_class_and_they_overlap(data):
    labels = torch.cat([scene.labels for scene in data.train])
    assert set(labels.tolist()) == set(range(1, len(CLASSES) + 1))
    assert {len(scene.labels) for scene in data.train} == {1, 2, 3, 4}
    assert any(scene.difficult.any() for scene in shapes(train=150, val=1, test=1).train)


def test_boxes_are_those_of_the_drawn_shapes():
    """A single shape has one colour: pixels like its middle reach every side of its box."""
    checked = 0
    for scene in shapes(train=30, val=1, test=1, objects=1).train:
        [box] = scene.boxes
        left, top, right, bottom = box.tolist()
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[int(top) : int(-(-bottom // 1)), int(left) : int(-(-right // 1))] = True
        outline = scene.image.float()
        middle = outline[:, int((top + bottom) / 2), int((left + right) / 2)]
        like = (outline - middle[:, None, None]).abs().amax(0) < 60
        rows, columns = (like & inside).any(1).nonzero().flatten(), (like & inside).any(0).nonzero().flatten()
        found = (columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1)
        checked += all(abs(a - b) <= 2 for a, b in zip(found, box.tolist(), strict=True))
    assert checked >= 27  # some backgrounds share a shape's colour


@pytest.mark.parametrize(("key", "value"), [("size", 16), ("objects", 0)])
def test_too_small_numbers_are_refused(key, value):
    with pytest.raises(ConfigError) as caught:
        shapes(**SMALL, **{key: value})
    assert caught.value.key == f"data.factory.{key}"
