"""The memory a compressed network needs, in megabits (1 Mb = 10⁶ bits)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from qp_runner.compress.compressor import Compressor
from qp_runner.compress.graph import Graph, LedgerTensor
from qp_runner.compress.mask import pruned_count
from qp_runner.compress.site import Site
from qp_runner.compress.sites import WeightSite
from qp_runner.schedule import FLOAT_BITS, Op, Stage, Target, TargetState

Kind = Literal["ideal", "stored", "published"]

MEGABIT = 1e6
PUBLISHED_COPIES = 2


@dataclass(frozen=True)
class Footprint:
    """Megabits. Activations are of one sample.

    Attributes:
        weight: all parameters; those outside sites (biases, norms) take 32 bits each.
        activation: every tensor of the ledger (see `graph`), summed; those outside sites take 32 bits an element.
        peak: the most memory that the ledger's tensors take at any time of a forward pass.
    """

    weight: float
    activation: float
    peak: float

    @property
    def total(self) -> float:
        """Weights plus the sum of activations: the divisor of the paper's performance density."""
        return self.weight + self.activation


@dataclass(frozen=True)
class Coded:
    """A tensor as input of an encoder.

    Attributes:
        elements: number of elements.
        zeros: how many of them are zero and need not be stored.
        bits: of each value.
        group: elements per bit of the mask, or per index (those of a channel; else 1).
        scale_bits: of all its scales together.
    """

    elements: int
    zeros: int
    bits: int
    group: int = 1
    scale_bits: int = 0

    def ideal(self) -> int:
        """Kept elements times bits."""
        return (self.elements - self.zeros) * self.bits

    def stored(self) -> int:
        """The smallest of dense, bitmask + values and index + values, plus scales; at most that of 32-bit floats."""
        units, kept = self.elements // self.group, (self.elements - self.zeros) // self.group
        index_width = math.ceil(math.log2(units)) if units > 1 else 0
        values = self.ideal()
        encoded = min(self.elements * self.bits, units + values, kept * index_width + values) + self.scale_bits
        return min(encoded, self.elements * FLOAT_BITS)


def performance_density(utility: float, megabits: float) -> float:
    """Utility per megabit; NaN for a footprint of 0.

    Utility is the metric where higher is better and 1/metric where lower is better. Source: Zhang et al. 2021.
    """
    return utility / megabits if megabits > 0 else math.nan


def published(*, parameters: int, layer_outputs: int, weight: TargetState, activation: TargetState) -> Footprint:
    """The count of the authors' notebook, on which the published performance densities are based.

    Every parameter × bits × (1 − sparsity), including biases, norms and unpruned layers; and in the same way twice the
    outputs of every convolution, batch norm and linear layer. For MobileNetV2 on 32 × 32 images these are
    2 × 3 449 866 = 6 899 732, exactly their figure (summaries of networks often double outputs "for gradients").
    It has no peak; `peak` is the sum.
    """
    outputs = PUBLISHED_COPIES * layer_outputs * activation.bits * (1 - activation.sparsity) / MEGABIT
    return Footprint(parameters * weight.bits * (1 - weight.sparsity) / MEGABIT, outputs, outputs)


def measure(compressor: Compressor, *, kind: Kind = "ideal") -> Footprint:
    """The footprint of the networks in their current state. RuntimeError without an earlier `compressor.trace`."""
    if kind == "published":
        return _published(compressor, compressor.state(Target.WEIGHT), compressor.state(Target.ACTIVATION))
    latents = compressor.latents()

    def weight(site: WeightSite) -> Coded:
        zeros = int((site.value(latents[site]) == 0).sum() if kind == "stored" else (site.mask == 0).sum())
        return _coded(compressor, site, elements=site.mask.numel(), zeros=zeros, bits=int(site.bits))

    def activation(site: Site, elements: int) -> Coded:
        group = elements // site.mask.numel() if site.is_pruning else 1
        zeros = int((site.mask == 0).sum()) * group
        return _coded(compressor, site, elements=elements, zeros=zeros, bits=int(site.bits), group=group)

    return _total(compressor, kind, weight, activation)


def expected(compressor: Compressor, stages: Sequence[Stage], *, kind: Kind = "ideal") -> Footprint:
    """The footprint that a compressor's networks will have after the last stage; what no event changes stays as it is.

    Which values quantization rounds to zero is not known in advance, so `stored` is an upper bound.
    """
    last, fired = stages[-1], frozenset[tuple[Op, Target]]().union(*(stage.fires for stage in stages))
    if kind == "published":
        return _published(compressor, last.weight, last.activation)

    def of(site: Site, elements: int, group: int, target: Target) -> Coded:
        zeros, bits = int((site.mask == 0).sum()) * group, int(site.bits)
        if (Op.PRUNE, target) in fired and site.prunable:
            zeros = pruned_count(elements // group, last.state(target).sparsity) * group
        if (Op.QUANTIZE, target) in fired:
            bits = site.bits_for(last.state(target).bits)
        return _coded(compressor, site, elements=elements, zeros=zeros, bits=bits, group=group)

    def of_activation(site: Site, elements: int) -> Coded:
        group = elements // site.mask.numel() if site.prunable or site.is_pruning else 1
        return of(site, elements, group, Target.ACTIVATION)

    return _total(compressor, kind, lambda site: of(site, site.mask.numel(), 1, Target.WEIGHT), of_activation)


def _coded(compressor: Compressor, site: Site, *, elements: int, zeros: int, bits: int, group: int = 1) -> Coded:
    """A power-of-two scale is stored as its exponent in 8 bits, any other as a 32-bit float."""
    width = 0 if bits == FLOAT_BITS else 8 if compressor.settings.scale == "power_of_two" else FLOAT_BITS
    return Coded(elements, zeros, bits, group, site.scale.numel() * width)


def _total(
    compressor: Compressor,
    kind: Literal["ideal", "stored"],
    weight: Callable[[WeightSite], Coded],
    activation: Callable[[Site, int], Coded],
) -> Footprint:
    traced = _traced(compressor)
    latents = compressor.latents()
    others = compressor.parameter_count() - sum(parameter.numel() for parameter in compressor.parameters_in_sites())
    weights = others * FLOAT_BITS + sum(getattr(weight(site), kind)() for site in latents)
    sites = {site.path: site for site in compressor.sites(Target.ACTIVATION)}

    def size(tensor: LedgerTensor) -> float:
        choices = [getattr(activation(sites[path], elements), kind)() for path, elements in tensor.sites.items()]
        return float(min([*choices, tensor.elements * FLOAT_BITS]))

    sizes = [size(tensor) for tensor in traced.ledger]
    return Footprint(weights / MEGABIT, sum(sizes) / MEGABIT, traced.peak(sizes) / MEGABIT)


def _published(compressor: Compressor, weight: TargetState, activation: TargetState) -> Footprint:
    outputs = _traced(compressor).layer_outputs
    count = compressor.parameter_count()
    return published(parameters=count, layer_outputs=outputs, weight=weight, activation=activation)


def _traced(compressor: Compressor) -> Graph:
    if compressor.graph is None:
        raise RuntimeError("call compressor.trace(run) with one sample before asking for a footprint")
    return compressor.graph
