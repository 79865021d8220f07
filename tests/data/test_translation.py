from dataclasses import replace

import pytest
import torch

from qp_runner.data import Domains, RandomCrop, TranslationData, generated_facades, generated_facades_unpaired, halves
from qp_runner.data.generated_facades import COLOURS
from qp_runner.data.translation import as_uint8, scaled
from qp_runner.errors import ConfigError


def numbered(count, size, *, start=0):
    """Images whose first pixel says which one they are; no two pixels of one column are equal."""
    images = torch.arange(size, dtype=torch.uint8).view(1, 1, size, 1).repeat(count, 3, 1, size)
    images[:, 1] = torch.arange(start, start + count, dtype=torch.uint8).view(-1, 1, 1)
    images[:, 2] = torch.arange(size, dtype=torch.uint8)
    return images


def data(*, train=(6, 6), size=8, load=10, paired=True, flip=True):
    small = Domains(numbered(3, size), numbered(3, size))
    training = Domains(numbered(train[0], load), numbered(train[1], load))
    return TranslationData(train=training, val=small, test=small, size=size, paired=paired, flip=flip)


def test_pairs_stay_pairs_after_shuffling_cropping_and_flipping():
    for batch in data().epoch(3, batch_size=2, seed=0):
        assert batch.a.shape == (2, 3, 8, 8)
        assert torch.equal(batch.a, batch.b)


def test_unpaired_domains_are_shuffled_and_cut_each_by_itself():
    batches = list(data(paired=False).epoch(0, batch_size=6, seed=0))
    a, b = (as_uint8(each) for each in batches[0])
    assert a[:, 1, 0, 0].sort().values.tolist() == b[:, 1, 0, 0].sort().values.tolist() == list(range(6))
    assert a[:, 1, 0, 0].tolist() != b[:, 1, 0, 0].tolist()
    assert a[:, 0, 0, 0].tolist() != b[:, 0, 0, 0].tolist()


def test_the_smaller_domain_repeats():
    seen = torch.cat(
        [as_uint8(batch.b)[:, 1, 0, 0] for batch in data(train=(7, 3), paired=False).epoch(0, batch_size=1, seed=0)]
    )
    assert len(seen) == 7
    assert seen[:3].sort().values.tolist() == seen[3:6].sort().values.tolist() == [0, 1, 2]


def test_crops_are_parts_of_the_image():
    crop = RandomCrop(size=3, flip=True)
    images = numbered(40, 5)
    draws = crop.draw(40, torch.Generator().manual_seed(0), height=5, width=5)
    for image, made, (top, left, flipped) in zip(images, crop.apply(images, draws), draws.tolist(), strict=True):
        part = image[:, top : top + 3, left : left + 3]
        assert torch.equal(made, part.flip(-1) if flipped else part)
    assert draws.min(0).values.tolist() == [0, 0, 0]
    assert draws.max(0).values.tolist() == [2, 2, 1]


def test_calibration_sees_centres():
    batch = next(data().calibration(samples=5, batch_size=2, seed=0))
    assert as_uint8(batch.a)[0, 0, 0, 0] == 1  # the middle 8 of 10 pixels


def test_scaling_is_undone():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert scaled(images).min() == -1
    assert scaled(images).max() == 1
    assert torch.equal(as_uint8(scaled(images)), images)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": Domains(numbered(6, 10), numbered(5, 10))}, "no set of pairs"),
        ({"train": Domains(numbered(6, 10), numbered(6, 11))}, "no set of pairs"),
        ({"train": Domains(numbered(6, 7), numbered(6, 7))}, "8×8 or larger"),
        ({"val": Domains(numbered(3, 10), numbered(3, 10))}, "must be 8×8; those of A are 10×10"),
        ({"test": Domains(numbered(0, 8), numbered(3, 8))}, "no images of domain A"),
        ({"test": Domains(numbered(3, 8).float(), numbered(3, 8))}, "uint8"),
        ({"test": Domains(numbered(3, 8)[:, :1], numbered(3, 8)[:, :1])}, r"uint8 \[n, 3, h, w\]"),
    ],
)
def test_splits_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(data(), **change)


SMALL = generated_facades(size=32, train=6, val=2, test=3)


def test_generated_facades_are_a_function_of_their_arguments():
    again = generated_facades(size=32, train=6, val=2, test=3)
    assert torch.equal(SMALL.train.b, again.train.b)
    assert torch.equal(SMALL.test.a, again.test.a)
    assert not torch.equal(SMALL.train.a, generated_facades(size=32, train=6, val=2, test=3, seed=1).train.a)
    assert SMALL.train.a.shape == SMALL.train.b.shape == (6, 3, 32, 32)
    assert (len(SMALL.val.a), len(SMALL.test.a)) == (2, 3)


def test_no_facade_is_in_two_splits():
    everything = torch.cat([SMALL.train.a, SMALL.val.a, SMALL.test.a])
    assert len(everything.flatten(1).unique(dim=0)) == 11


def test_label_maps_contain_label_colours_only():
    pixels = SMALL.train.a.permute(0, 2, 3, 1).reshape(-1, 3)
    assert {tuple(colour) for colour in pixels.unique(dim=0).tolist()} <= set(COLOURS.values())


def test_a_picture_takes_more_than_a_colour_for_each_label():
    """The best colour for each label leaves most of what a network has to learn: a tenth of the contrast."""
    sample = generated_facades(size=64, train=12, val=2, test=2).train
    labels = sample.a.permute(0, 2, 3, 1).reshape(-1, 3)
    pixels = sample.b.permute(0, 2, 3, 1).reshape(-1, 3).float()
    _, which = labels.unique(dim=0, return_inverse=True)
    means = torch.stack([pixels[which == label].mean(0) for label in range(int(which.max()) + 1)])
    left = (pixels - means[which]).abs().mean()
    assert left > 0.1 * (pixels - pixels.mean(0)).abs().mean()
    assert left > 3 * 3.0  # and is no mere noise


def test_halves_share_no_facade():
    unpaired = halves(paired=SMALL)
    assert torch.equal(unpaired.train.a, SMALL.train.a[[0, 2, 4]])
    assert torch.equal(unpaired.train.b, SMALL.train.b[[1, 3, 5]])
    assert not unpaired.paired
    assert torch.equal(unpaired.test.a, SMALL.test.a)
    made = generated_facades_unpaired(size=32, train=3, val=2, test=3)
    assert torch.equal(made.train.a, unpaired.train.a)


@pytest.mark.parametrize(
    ("arguments", "key"), [({"size": 8}, "data.size"), ({"train": 1}, "data.train"), ({"test": 0}, "data.test")]
)
def test_impossible_facades_are_refused(arguments, key):
    with pytest.raises(ConfigError) as caught:
        generated_facades(**arguments)
    assert caught.value.key == key
