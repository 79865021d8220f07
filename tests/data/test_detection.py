from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from qp_runner.data.detection import DetectionData, Scene, scaled_size
from qp_runner.errors import ConfigError


def scene(number=0, boxes=((1.0, 2.0, 5.0, 8.0),), labels=None, difficult=None, size=(10, 12)):
    image = torch.randint(256, (3, *size), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    count = len(boxes)
    return Scene(
        name=f"image {number}",
        image=image,
        size=size,
        boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor(labels or [1] * count) if count else torch.zeros(0, dtype=torch.int64),
        difficult=torch.tensor(difficult or [False] * count, dtype=torch.bool),
    )


def data(count=7, **changes):
    scenes = tuple(scene(number) for number in range(count))
    return DetectionData(**{"train": scenes, "val": scenes[:2], "test": scenes[:3], "classes": ("a", "b")} | changes)


def test_every_step_has_its_own_seed():
    seeds = [int(batch.seed) for epoch in (0, 1) for batch in data().epoch(epoch, batch_size=2, seed=1)]
    assert len(set(seeds)) == len(seeds) == 6


def test_a_flipped_images_boxes_are_where_its_things_are():
    boxes = ((1.0, 2.0, 5.0, 8.0), (0.0, 0.0, 12.0, 10.0))
    marked = scene(boxes=boxes)
    marked.image.zero_()
    marked.image[:, 2:8, 1:5] = 255
    flipped = 0
    for epoch in range(8):
        [batch] = data(train=(marked,)).epoch(epoch, batch_size=1, seed=0)
        left, top, right, bottom = batch.targets[0]["boxes"][0].int().tolist()
        image = batch.images[0]
        assert image[:, top:bottom, left:right].min() == 1
        assert image.sum() == image[:, top:bottom, left:right].numel()
        flipped += left != 1
    assert 0 < flipped < 8


def test_difficult_objects_are_not_learned_but_measured():
    both = scene(boxes=((1, 1, 4, 4), (5, 5, 9, 9)), labels=[1, 2], difficult=[False, True])
    given = data(train=(both,), test=(both,))
    [learned] = given.epoch(0, batch_size=1, seed=0)
    assert learned.targets[0]["labels"].tolist() == [1]
    assert "difficult" not in learned.targets[0]
    [measured] = given.evaluation("test", batch_size=4)
    assert measured.targets[0]["labels"].tolist() == [1, 2]
    assert measured.targets[0]["difficult"].tolist() == [False, True]


def test_an_image_without_objects_is_background():
    batches = data(train=(scene(boxes=()), scene(1))).epoch(0, batch_size=1, seed=0)
    assert sorted(batch.targets[0]["boxes"].shape for batch in batches) == [(0, 4), (1, 4)]


def test_images_on_disk_are_read_when_used_and_scaled(tmp_path: Path):
    Image.new("RGB", (24, 20), (255, 0, 0)).save(tmp_path / "red.png")
    lazy = replace(scene(), image=tmp_path / "red.png")
    batch = data(train=(lazy,)).batch([lazy])
    assert batch.images[0].shape == (3, 10, 12)
    assert batch.images[0][0].min() == 1
    assert torch.equal(lazy.held().pixels(), lazy.pixels())
    (tmp_path / "red.png").unlink()
    with pytest.raises(ConfigError, match=r"red\.png"):
        lazy.pixels()


@pytest.mark.parametrize(
    ("given", "shorter", "longer", "made"),
    [
        ((480, 640), None, 10, (480, 640)),
        ((480, 640), 240, None, (240, 320)),
        ((500, 375), 600, 1000, (800, 600)),
        ((100, 500), 600, 1000, (200, 1000)),
        ((3, 1000), 2, 4, (1, 4)),
    ],
)
def test_sizes(given, shorter, longer, made):
    assert scaled_size(given, shorter=shorter, longer=longer) == made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"boxes": ((1, 1, 1, 4),)}, "a box is empty"),
        ({"boxes": ((1, 1, 13, 4),)}, "not inside the image of 10×12"),
        ({"boxes": ((-1, 1, 3, 4),)}, "not inside"),
        ({"labels": [3]}, "labels must be in 1..2; these are [3]"),
        ({"labels": [0]}, "labels must be in 1..2"),
        ({"labels": [1.5]}, "must be float32, int64 and bool"),
        ({"labels": [1, 1]}, "2 labels and 1 marks"),
    ],
)
def test_wrong_scenes_are_refused(wrong, said):
    with pytest.raises(ConfigError) as caught:
        data(test=(scene(**wrong),))
    assert said in str(caught.value)
    assert caught.value.value == "image 0"


def test_sets_that_teach_nothing_are_refused():
    with pytest.raises(ConfigError, match="has no images"):
        data(val=())
    with pytest.raises(ConfigError, match="no box to learn"):
        data(train=(scene(boxes=()), scene(difficult=[True])))
