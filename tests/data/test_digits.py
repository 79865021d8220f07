import sys

import pytest
import torch
from sklearn.datasets import load_digits

from qp_runner.data import digits

digits_module = sys.modules["qp_runner.data.digits"]


def test_the_split_is_fixed_stratified_and_holds_every_image_once():
    data = digits()
    assert [len(split) for split in (data.train, data.val, data.test)] == [898, 179, 720]
    sets = (data.train, data.val, data.test)
    pixels = torch.cat([split.images for split in sets]).flatten(1)
    source = torch.from_numpy((load_digits().data * 255 / 16).round()).to(torch.uint8)
    assert sorted(pixels.tolist()) == sorted(source.tolist())
    for split in sets:
        share = split.labels.bincount() / len(split)
        assert share.min() > 0.09
        assert share.max() < 0.11


def test_images_are_uint8_over_the_whole_range():
    data = digits()
    assert data.shape == (1, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.max() == 255
    assert data.train.images.unique().numel() == 17


def test_training_images_are_normalised():
    images = torch.cat([batch.images for batch in digits().evaluation("train", batch_size=500)])
    assert abs(images.mean()) < 1e-4
    assert abs(images.std() - 1) < 1e-4


def test_augmentation_shifts_by_a_pixel_and_is_off_by_default():
    assert (digits().augmentation.pad, digits(augment=True).augmentation.pad) == (0, 1)
    assert not digits(augment=True).augmentation.flip  # a mirrored 2 is no 2


@pytest.mark.parametrize("found", [True, False])
def test_images_and_labels_are_scikit_learns(monkeypatch: pytest.MonkeyPatch, found: bool):
    if not found:  # as if a version of scikit-learn kept its file elsewhere
        monkeypatch.setattr(digits_module, "find_spec", lambda name: None)
    digits_module._table.cache_clear()
    table, bunch = digits_module._table(), load_digits()
    digits_module._table.cache_clear()
    assert (table[:, :-1] == bunch.data).all()
    assert (table[:, -1] == bunch.target).all()
