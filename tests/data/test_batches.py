"""What holds for the batches of every kind of data set."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qp_runner.data import (
    Augmentation,
    DetectionData,
    Domains,
    ImageData,
    ImageSet,
    Patches,
    Rows,
    Scene,
    SuperResolutionData,
    TranslationData,
)

COUNT = 25  # training samples, no two alike
RANDOM = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randint(256, shape, generator=RANDOM, dtype=torch.uint8)


def images():
    split = ImageSet(noise(COUNT, 2, 5, 5), torch.arange(COUNT))
    plain = ImageData(split, split, split, tuple(map(str, range(COUNT))), torch.zeros(2), torch.ones(2))
    return replace(plain, augmentation=Augmentation(pad=2, flip=True)), plain


def scenes():
    box = (torch.tensor([[1.0, 2, 5, 8]]), torch.tensor([1]), torch.tensor([False]))
    made = tuple(Scene(str(number), noise(3, 10, 12), (10, 12), *box) for number in range(COUNT))
    plain = DetectionData(train=made, val=made, test=made, classes=("a",), flip=False)
    return replace(plain, flip=True), plain


def patches():
    plain = SuperResolutionData(Patches(noise(COUNT, 1, 4, 4) / 255, noise(COUNT, 1, 8, 8) / 255), (), (), scale=2)
    return plain, plain


def translation(paired):
    large = Domains(noise(COUNT, 3, 12, 12), noise(COUNT, 3, 12, 12))
    small = Domains(large.a[:, :, 2:10, 2:10], large.b[:, :, 2:10, 2:10])
    plain = TranslationData(train=small, val=small, test=small, size=8, paired=paired, flip=False)
    return replace(plain, train=large, flip=True), plain


SETS = {
    "images": images(),
    "scenes": scenes(),
    "patches": patches(),
    "pairs": translation(True),
    "unpaired": translation(False),
}
every_set = pytest.mark.parametrize(("data", "plain"), SETS.values(), ids=SETS)  # with augmentation, and without


def samples(batch):
    """What a batch begins with, image by image, as bytes."""
    return [image.numpy().tobytes() for image in batch[0]]


def tensors(value):
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in tensors(part)]


def equal(one, other):
    pairs = zip(tensors(list(one)), tensors(list(other)), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@every_set
def test_an_epochs_batches_depend_on_seed_and_epoch_only(data, plain):
    known = [*data.epoch(3, batch_size=8, seed=5)]
    torch.manual_seed(123)
    before = torch.get_rng_state()
    list(data.epoch(0, batch_size=8, seed=5))  # what came before makes no difference
    assert equal(known, data.epoch(3, batch_size=8, seed=5))
    assert torch.equal(torch.get_rng_state(), before)  # and the global generator is not used
    firsts = [samples(next(data.epoch(e, batch_size=8, seed=s))) for e in range(3) for s in range(3)]
    assert all(one != other for place, one in enumerate(firsts) for other in firsts[:place])


@pytest.mark.parametrize("name", sorted(SETS.keys() - {"scenes"}))
def test_batches_made_of_rows_are_those_of_the_epoch(name):
    data, _ = SETS[name]
    rows = [*data.rows(2, batch_size=8, seed=5)]
    assert all(isinstance(each, Rows) and each.numbers.shape[0] == 8 for each in rows)
    assert equal([data.make(each) for each in rows], data.epoch(2, batch_size=8, seed=5))


@every_set
def test_an_epoch_shows_each_sample_at_most_once_in_full_batches(data, plain):
    batches = [samples(batch) for batch in plain.epoch(0, batch_size=8, seed=0)]
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert len({sample for batch in batches for sample in batch}) == 24
    assert [len(samples(batch)) for batch in data.epoch(0, batch_size=8, seed=0)] == [8, 8, 8]


@every_set
def test_calibration_samples_are_fixed_and_unchanged(data, plain):
    batches = [*data.calibration(samples=20, batch_size=8, seed=0)]
    assert [len(samples(batch)) for batch in batches] == [8, 8, 4]
    assert equal(batches, plain.calibration(samples=20, batch_size=8, seed=0))
    drawn = [sample for batch in batches for sample in samples(batch)]
    assert len(set(drawn)) == 20
    whole, other, everything = (
        [sample for batch in data.calibration(samples=n, batch_size=50, seed=seed) for sample in samples(batch)]
        for n, seed in ((20, 0), (20, 1), (999, 0))
    )
    assert whole == drawn != other
    assert len(everything) == COUNT
