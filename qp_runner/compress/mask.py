"""Which elements pruning keeps: exact counts, ties broken by position."""

import math

import torch
from torch import Tensor


def pruned_count(elements: int, sparsity: float) -> int:
    """How many of `elements` a sparsity in [0, 1) sets to zero: `sparsity · elements`, rounded half up."""
    return math.floor(sparsity * elements + 0.5)


def magnitude_mask(saliency: Tensor, sparsity: float) -> Tensor:
    """A float32 mask of the saliency's shape and memory layout: 0 at the `pruned_count` smallest elements, else 1.

    Among equal saliencies the earlier position (row-major) is pruned first, so the count is exact whatever the ties:
    a tensor with 60 % zeros at sparsity 0.5 loses exactly half of its elements, all of them zeros.
    """
    order = saliency.flatten().argsort(stable=True)
    flat = torch.ones(saliency.numel(), device=saliency.device)
    flat[order[: pruned_count(saliency.numel(), sparsity)]] = 0.0
    return torch.empty_like(saliency, dtype=torch.float32).copy_(flat.view(saliency.shape))
