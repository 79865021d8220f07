from pathlib import Path

import pytest
import torch
from PIL import Image

from qp_runner.data.detection import DetectionData, Scene, mirrored, scaled_size
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


def test_batches_are_a_function_of_seed_and_epoch():
    one, other = data(), data()
    torch.rand(5)
    for mine, theirs in zip(one.epoch(3, batch_size=2, seed=1), other.epoch(3, batch_size=2, seed=1), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.images, theirs.images, strict=True))
        assert torch.equal(mine.seed, theirs.seed)
    seeds = [int(batch.seed) for epoch in (0, 1) for batch in one.epoch(epoch, batch_size=2, seed=1)]
    assert len(set(seeds)) == len(seeds) == 6
    assert int(next(one.epoch(0, batch_size=2, seed=2)).seed) != seeds[0]


def test_an_epoch_shows_every_image_once_but_an_incomplete_batch():
    shown = [image for batch in data(flip=False).epoch(0, batch_size=3, seed=0) for image in batch.images]
    assert len(shown) == 6
    originals = [scene(number).image.float() / 255 for number in range(7)]
    found = [next(i for i, original in enumerate(originals) if torch.equal(original, image)) for image in shown]
    assert len(set(found)) == 6


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


def test_mirroring_twice_changes_nothing():
    boxes = torch.tensor([[0.0, 1, 3, 4], [2.5, 0, 10, 9]])
    assert torch.equal(mirrored(mirrored(boxes, width=10), width=10), boxes)
    assert mirrored(boxes, width=10)[0].tolist() == [7, 1, 10, 4]


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
    empty = scene(boxes=())
    given = data(train=(empty, scene(1)))
    for batch in given.epoch(0, batch_size=1, seed=0):
        assert batch.targets[0]["boxes"].shape[1] == 4
    assert sorted(len(batch.targets[0]["boxes"]) for batch in given.epoch(0, batch_size=1, seed=0)) == [0, 1]


def test_calibration_is_the_same_at_every_call_and_never_flipped():
    given = data()
    first = [image for batch in given.calibration(samples=5, batch_size=2, seed=0) for image in batch.images]
    again = [image for batch in given.calibration(samples=5, batch_size=3, seed=0) for image in batch.images]
    assert len(first) == 5
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    originals = [scene(number).image.float() / 255 for number in range(7)]
    assert all(any(torch.equal(original, image) for original in originals) for image in first)
    assert len(next(iter(given.calibration(samples=50, batch_size=50, seed=0))).images) == 7


def test_images_on_disk_are_read_when_used_and_scaled(tmp_path: Path):
    Image.new("RGB", (24, 20), (255, 0, 0)).save(tmp_path / "red.png")
    lazy = Scene(
        "red", tmp_path / "red.png", (10, 12), *(getattr(scene(), k) for k in ("boxes", "labels", "difficult"))
    )
    batch = data(train=(lazy,)).batch([lazy])
    assert batch.images[0].shape == (3, 10, 12)
    assert batch.images[0][0].min() == 1
    assert torch.equal(lazy.held().pixels(), lazy.pixels())
    (tmp_path / "red.png").unlink()
    with pytest.raises(ConfigError, match=r"red\.png"):
        lazy.pixels()


def test_moving_takes_images_along():
    moved = data().to(torch.device("meta"))
    assert moved.batch(moved.train[:1]).images[0].device.type == "meta"


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
