"""What sites are like now, in numbers that a report can show."""

import math
from dataclasses import dataclass

from torch import Tensor

from qp_runner.compress.site import Site
from qp_runner.compress.sites import WeightSite
from qp_runner.compress.trace import Trace
from qp_runner.schedule import Target


@dataclass(frozen=True)
class SiteRecord:
    """A site as it is now.

    Attributes:
        elements: of the weight, or of one sample's activation (None until its shape is known).
        mask_zeros: of them pruned.
        value_zeros: of a weight's, zero after quantization too; None for activations, where it varies with the input.
        scale: one for each channel of a weight, one for an activation; None while not quantized.
    """

    path: str
    target: Target
    prunable: bool
    elements: int | None
    mask_zeros: int
    value_zeros: int | None
    bits: int
    scale: tuple[float, ...] | None

    @property
    def sparsity(self) -> float:
        """The share of elements that is pruned."""
        return self.mask_zeros / self.elements if self.elements else 0.0


def weight_record(site: WeightSite, weight: Tensor) -> SiteRecord:
    """The record of a weight site, given its latent weight."""
    return SiteRecord(
        path=site.path,
        target=Target.WEIGHT,
        prunable=site.prunable,
        elements=weight.numel(),
        mask_zeros=int((site.mask == 0).sum()),
        value_zeros=int((site.value(weight) == 0).sum()),
        bits=int(site.bits),
        scale=_scale(site),
    )


def activation_record(site: Site, trace: Trace | None) -> SiteRecord:
    """The record of an activation site; of the first of its tensors, where its module is called several times."""
    shapes = [tensor.shape for tensor in trace.tensors if tensor.site == site.path] if trace else []
    elements = math.prod(shapes[0]) if shapes else site.mask.numel() if site.mask.dim() else None
    group = elements // site.mask.numel() if elements else 1
    return SiteRecord(
        path=site.path,
        target=Target.ACTIVATION,
        prunable=site.prunable,
        elements=elements,
        mask_zeros=int((site.mask == 0).sum()) * group,
        value_zeros=None,
        bits=int(site.bits),
        scale=_scale(site),
    )


def _scale(site: Site) -> tuple[float, ...] | None:
    return tuple(site.scale.flatten().tolist()) if site.is_quantizing else None
