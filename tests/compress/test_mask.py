import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.compress import magnitude_mask, pruned_count
from qp_runner.compress.mask import broadcasts, tileable, tiled


def reference(saliency: list[float], sparsity: float) -> list[float]:
    """Prunes one smallest element after another, the first of equals first."""
    mask = [1.0] * len(saliency)
    for _ in range(min(math.floor(sparsity * len(saliency) + 0.5), len(saliency) - 1)):
        smallest = min(value for value, kept in zip(saliency, mask, strict=True) if kept)
        mask[next(i for i, value in enumerate(saliency) if mask[i] and value == smallest)] = 0.0
    return mask


@settings(max_examples=100)
@given(
    saliency=st.lists(
        st.one_of(st.just(0.0), st.sampled_from([0.5, 1.0]), st.floats(0, 9, width=32)), min_size=1, max_size=30
    ),
    sparsity=st.floats(0, 1, exclude_max=True),
)
def test_equals_pruning_one_by_one(saliency, sparsity):
    mask = magnitude_mask(torch.tensor(saliency), sparsity)
    assert mask.tolist() == reference(saliency, sparsity)
    assert int((mask == 0).sum()) == pruned_count(len(saliency), sparsity)


@pytest.mark.parametrize(
    ("n", "sparsity", "count"), [(10, 0.25, 3), (10, 0.24, 2), (6, 0.25, 2), (3, 0.5, 2), (7, 0.0, 0), (0, 0.5, 0)]
)
def test_counts_round_half_up(n, sparsity, count):
    assert pruned_count(n, sparsity) == count


@pytest.mark.parametrize(("n", "sparsity"), [(1, 0.5), (1, 0.99), (2, 0.75), (10, 0.99)])
def test_one_element_is_always_kept(n, sparsity):
    assert pruned_count(n, sparsity) == n - 1
    assert magnitude_mask(torch.arange(float(n)), sparsity).tolist() == [0] * (n - 1) + [1]


def test_a_constant_tensor_loses_its_first_elements():
    assert magnitude_mask(torch.full((2, 4), 3.0), 0.5).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_a_tensor_with_sixty_percent_zeros_loses_exactly_half():
    saliency = torch.tensor([0.0, 0, 5, 0, 0, 4, 0, 0, 3, 2])
    assert magnitude_mask(saliency, 0.5).tolist() == [0, 0, 1, 0, 0, 1, 0, 1, 1, 1]


def test_memory_layout_is_the_saliencys():
    saliency = torch.rand(1, 4, 3, 3).contiguous(memory_format=torch.channels_last)[0]
    mask = magnitude_mask(saliency, 0.3)
    assert mask.stride() == saliency.stride()
    assert torch.equal(mask, magnitude_mask(saliency.contiguous(), 0.3))


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=100)
@given(mask=sizes, sample=st.tuples(st.integers(1, 12), st.integers(1, 12)), channels=st.integers(1, 3))
def test_a_tiled_mask_repeats_position_by_position(mask, sample, channels):
    small = torch.rand(channels, *mask)
    large = tiled(small, (channels, *sample))
    assert large.shape == (channels, *sample)
    for c in range(channels):
        for i in range(sample[0]):
            for j in range(sample[1]):
                assert large[c, i, j] == small[c, i % mask[0], j % mask[1]]


@pytest.mark.parametrize(
    ("mask", "sample", "as_it_is", "by_tiling"),
    [
        ((), (4, 8, 8), True, False),
        ((4, 8, 8), (4, 8, 8), True, True),
        ((4, 1, 1), (4, 8, 9), True, True),
        ((4, 8, 8), (4, 9, 7), False, True),
        ((4, 8, 8), (3, 8, 8), False, False),
        ((4, 8, 8), (4,), False, False),
        ((4,), (5,), False, False),
    ],
)
def test_which_masks_fit_which_samples(mask, sample, as_it_is, by_tiling):
    assert broadcasts(mask, sample) == as_it_is
    assert tileable(mask, sample) == by_tiling
