"""The current state of sites in numbers, for records."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qp_runner.compress.graph import Graph
from qp_runner.compress.site import Site
from qp_runner.compress.sites import WeightSite
from qp_runner.schedule import FLOAT_BITS, Target, TargetState

WITHOUT_EFFECT = "without effect: nothing reads what it hands on"


@dataclass(frozen=True)
class SiteRecord:
    """A site's current state.

    Attributes:
        elements: of the weight, or of one sample's activation (None until its shape is known).
        mask_zeros: how many of them are pruned.
        value_zeros: zeros of a weight after quantization; None for activations, where it depends on the input.
        scale: one for each channel of a weight, one for an activation; None while not quantized.
        left_out: why it counts in no figure; empty where it does.
    """

    path: str
    target: Target
    prunable: bool
    elements: int | None
    mask_zeros: int
    value_zeros: int | None
    bits: int
    scale: tuple[float, ...] | None
    left_out: str = ""

    @property
    def sparsity(self) -> float:
        """The share of pruned elements."""
        return self.mask_zeros / self.elements if self.elements else 0.0


def counts(site: Site, graph: Graph | None) -> tuple[int | None, int]:
    """Elements and mask zeros of a weight, or of one sample's activation (of the first call, if its module is called
    several times). Elements are None while the shape of a sample is unknown.
    """
    mask = site.mask
    zeros = int((mask == 0).sum())
    if isinstance(site, WeightSite):
        return mask.numel(), zeros
    elements = graph.elements.get(site.path) if graph else None
    if elements is None:
        return (mask.numel() if mask.dim() else None), zeros
    return elements, zeros * (elements // mask.numel() if mask.dim() else 1)


def record(site: Site, *, latent: Tensor | None, graph: Graph | None) -> SiteRecord:
    """The record of a site; `latent` is a weight's, None for an activation."""
    elements, zeros = counts(site, graph)
    return SiteRecord(
        path=site.path,
        target=Target.WEIGHT if isinstance(site, WeightSite) else Target.ACTIVATION,
        prunable=site.prunable,
        elements=elements,
        mask_zeros=zeros,
        value_zeros=None if latent is None else int((site.value(latent) == 0).sum()),
        bits=int(site.bits),
        scale=tuple(site.scale.flatten().tolist()) if site.is_quantizing else None,
        left_out="" if has_effect(site, graph) else WITHOUT_EFFECT,
    )


def has_effect(site: Site, graph: Graph | None) -> bool:
    """Whether anything reads what a site hands on; True where it is not known."""
    return isinstance(site, WeightSite) or graph is None or site.path not in graph.unread


def state(sites: Sequence[Site], graph: Graph | None) -> TargetState:
    """Sparsity and bits of the sites of a target, of those alone that have an effect.

    The sparsity is the share of pruned elements over the prunable ones; the bits are those of sites without bits of
    their own, 32 while they are not quantized.
    """
    sites = [site for site in sites if has_effect(site, graph)]
    pairs = [counts(site, graph) for site in sites if site.prunable]
    sparsity = sum(zeros for _, zeros in pairs) / max(sum(elements or 0 for elements, _ in pairs), 1)
    usual = [site for site in sites if site.own_bits is None] or sites
    return TargetState(sparsity, max((int(site.bits) for site in usual), default=FLOAT_BITS))
