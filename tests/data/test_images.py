from dataclasses import replace

import pytest
import torch

from qp_runner.data import Augmentation, ImageData, ImageSet
from qp_runner.errors import ConfigError


def numbered(samples, start=0):
    """Images whose label and every pixel tell which one it is."""
    labels = torch.arange(start, start + samples)
    return ImageSet(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 5, 5).clone(), labels)


@pytest.fixture
def data():
    return ImageData(
        train=numbered(50),
        val=numbered(7, 50),
        test=numbered(11, 60),
        classes=tuple(map(str, range(80))),
        mean=torch.tensor([0.5, 0.25]),
        std=torch.tensor([0.5, 2.0]),
    )


def labels(batches):
    return [batch.labels.tolist() for batch in batches]


def test_images_stay_with_their_labels(data):
    augmented = replace(data, augmentation=Augmentation(flip=True))
    for images, targets in augmented.epoch(0, batch_size=8, seed=0):
        pixels = (images * augmented.std.view(-1, 1, 1) + augmented.mean.view(-1, 1, 1)) * 255
        assert torch.allclose(pixels, targets.view(-1, 1, 1, 1).float().expand_as(pixels), atol=1e-4)


def test_augmentation_differs_between_epochs_and_seeds():
    same = ImageSet(torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5).repeat(16, 1, 1, 1), torch.zeros(16).long())
    data = ImageData(same, same, same, ("a",), torch.zeros(1), torch.ones(1), Augmentation(pad=2, flip=True))
    batches = [next(data.epoch(e, batch_size=16, seed=s)).images for e in range(3) for s in range(3)]
    assert all(not torch.equal(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_augmentation_does_not_change_the_order(data):
    augmented = replace(data, augmentation=Augmentation(pad=1))
    assert labels(augmented.epoch(2, batch_size=8, seed=1)) == labels(data.epoch(2, batch_size=8, seed=1))


def test_evaluation_shows_a_split_whole_in_its_own_order(data):
    assert labels(data.evaluation("val", batch_size=3)) == [[50, 51, 52], [53, 54, 55], [56]]
    assert labels(data.evaluation("test", batch_size=100)) == [[*range(60, 71)]]


def test_normalised_images_are_float32_by_channel(data):
    batch = data.normalise(ImageSet(torch.full((1, 2, 1, 1), 255, dtype=torch.uint8), torch.zeros(1).long()))
    assert batch.images.dtype == torch.float32
    assert batch.images.flatten().tolist() == [1.0, 0.375]


@pytest.mark.parametrize(
    ("split", "bad", "said"),
    [
        ("val", ImageSet(torch.zeros(2, 2, 5, 5), torch.zeros(2).long()), "uint8"),
        ("test", ImageSet(torch.zeros(2, 2, 6, 5, dtype=torch.uint8), torch.zeros(2).long()), "one shape"),
        ("train", ImageSet(torch.zeros(2, 2, 5, 5, dtype=torch.uint8), torch.zeros(3).long()), "one int64 label"),
        ("train", ImageSet(torch.zeros(2, 2, 5, 5, dtype=torch.uint8), torch.zeros(2).int()), "one int64 label"),
        ("val", ImageSet(torch.zeros(1, 2, 5, 5, dtype=torch.uint8), torch.tensor([80])), "0..79"),
        ("test", ImageSet(torch.zeros(0, 2, 5, 5, dtype=torch.uint8), torch.zeros(0).long()), "no images"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(data, split, bad, said):
    with pytest.raises(ConfigError, match=f"data={split} split: .*{said}"):
        replace(data, **{split: bad})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_need_nothing_from_the_host_and_equal_those_of_the_cpu(data):
    augmented = replace(data, augmentation=Augmentation(pad=1, flip=True))
    expected = list(augmented.epoch(0, batch_size=8, seed=0))
    batches = augmented.to(torch.device("cuda")).epoch(0, batch_size=8, seed=0)
    made = [next(batches)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.extend(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, theirs in zip(made, expected, strict=True):
        assert torch.allclose(ours.images.cpu(), theirs.images)
        assert torch.equal(ours.labels.cpu(), theirs.labels)
