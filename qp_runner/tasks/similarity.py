"""Structural similarity."""

from torch import Tensor


def ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """The mean structural similarity (Wang et al. 2004) of images [n, c, h, w] with values in 0..1, 0-dim.

    Computed by torchmetrics with its defaults, the published ones: a Gaussian window of 11 pixels, k₁ 0.01, k₂ 0.03.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    value = structural_similarity_index_measure(made, wanted, data_range=1.0)
    assert isinstance(value, Tensor)
    return value
