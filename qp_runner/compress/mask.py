"""Which elements pruning keeps: exact counts, ties broken by position; and masks tiled over larger samples."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pruned_count(elements: int, sparsity: float) -> int:
    """How many of `elements` a sparsity in [0, 1) sets to zero: `sparsity · elements`, rounded half up; never all."""
    return min(math.floor(sparsity * elements + 0.5), max(elements - 1, 0))


def magnitude_mask(saliency: Tensor, sparsity: float) -> Tensor:
    """A float32 mask of the saliency's shape and memory layout: 0 at the `pruned_count` smallest elements, else 1.

    Among equal saliencies the earlier position (row-major) is pruned first, so the count is exact despite ties:
    a tensor with 60 % zeros at sparsity 0.5 loses exactly half of its elements, all of them zeros.
    """
    order = saliency.flatten().argsort(stable=True)
    flat = torch.ones(saliency.numel(), device=saliency.device)
    flat[order[: pruned_count(saliency.numel(), sparsity)]] = 0.0
    return torch.empty_like(saliency, dtype=torch.float32).copy_(flat.view(saliency.shape))


def broadcasts(mask: Sequence[int], sample: Sequence[int]) -> bool:
    """Whether a mask of one shape broadcasts to samples of another: equal, by channel, or a single element."""
    return not mask or (len(mask) == len(sample) and all(m in (1, s) for m, s in zip(mask, sample, strict=True)))


def tileable(mask: Sequence[int], sample: Sequence[int]) -> bool:
    """Whether a mask of shape [C, h, w] can be tiled over samples of a shape: equal channels, any positions."""
    return len(mask) == len(sample) > 1 and mask[0] == sample[0]


def tiled(mask: Tensor, sample: Sequence[int]) -> Tensor:
    """A mask [C, h, w] repeated over the positions of a sample's shape [C, H, W], cropped at the ends.

    Element (c, i, j) of the result is the mask's (c, i mod h, j mod w); a smaller sample gets the mask's first part.
    """
    repeats = [1, *(-(-there // here) for here, there in zip(mask.shape[1:], sample[1:], strict=True))]
    return mask.repeat(repeats)[tuple(slice(size) for size in sample)]
