import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.data import Augmentation


def one_by_one(images, draws, pad):
    """A simple reference: one image at a time."""
    height, width = images.shape[-2:]
    results = []
    for image, (top, left, flipped) in zip(images, draws.tolist(), strict=True):
        cut = F.pad(image, [pad] * 4)[:, top : top + height, left : left + width]
        results.append(cut.flip(-1) if flipped else cut)
    return torch.stack(results)


@given(
    pad=st.integers(0, 4),
    flip=st.booleans(),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_batches_equal_images_changed_one_by_one(pad, flip, shape, seed):
    source = torch.Generator().manual_seed(seed)
    images = torch.randint(256, shape, generator=source, dtype=torch.uint8)
    augmentation = Augmentation(pad=pad, flip=flip)
    draws = augmentation.draw(len(images), source)
    result = augmentation.apply(images, draws)
    assert result.dtype == torch.uint8
    assert torch.equal(result, one_by_one(images, draws, pad))


@pytest.mark.parametrize(("pad", "flip", "kinds"), [(0, False, 1), (0, True, 2), (1, False, 9), (2, True, 50)])
def test_every_change_comes_about_equally_often(pad, flip, kinds):
    samples = 200 * kinds
    draws = Augmentation(pad=pad, flip=flip).draw(samples, torch.Generator().manual_seed(0))
    seen, counts = draws.unique(dim=0, return_counts=True)
    assert len(seen) == kinds
    assert counts.min() > 140
    assert counts.max() < 260


def test_nothing_to_change_returns_the_images_themselves():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    none = Augmentation()
    assert none.apply(images, none.draw(2, torch.Generator())) is images


def test_the_border_is_black():
    images = torch.full((64, 1, 4, 4), 200, dtype=torch.uint8)
    augmentation = Augmentation(pad=2)
    result = augmentation.apply(images, augmentation.draw(64, torch.Generator().manual_seed(0)))
    assert result.unique().tolist() == [0, 200]
