"""Everything that a network keeps in memory, in sites or not, as rows of a table."""

from dataclasses import dataclass

from qp_runner.compress.compressor import Compressor
from qp_runner.compress.graph import Graph
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite
from qp_runner.compress.summary import WITHOUT_EFFECT, has_effect
from qp_runner.schedule import Target


@dataclass(frozen=True)
class Row:
    """A matrix of weights, or a tensor of activations.

    Attributes:
        path: of the site, or the name of what is none.
        operation: the class of the module, or the function.
        shape: of an activation that of one sample.
        share: of all matrix parameters, or of all activations in memory.
        treatment: what a schedule does to it: `pruned, quantized`, `quantized` or `left`; a site without effect counts
            as left.
        reason: why it is not pruned, or left.
    """

    path: str
    target: Target
    operation: str
    shape: tuple[int, ...]
    share: float
    treatment: str
    reason: str


def inventory(compressor: Compressor) -> list[Row]:
    """A row for every site and for everything that is in none; RuntimeError before `compressor.trace`."""
    left = compressor.coverage().left_out
    rows = []
    for target in Target:
        shapes = {site: _shape(compressor, site) for site in _in_order(compressor, target)}
        shares = _shares(compressor, target)
        rows += [
            Row(site.path, target, site.kind, shape, shares.get(site.path, 0.0), *_treatment(site, compressor.graph))
            for site, shape in shapes.items()
        ]
        rows += [
            Row(each.path, target, each.kind, each.shape, each.share, "left", each.reason)
            for each in left
            if each.target == target
        ]
    return rows


def _in_order(compressor: Compressor, target: Target) -> list[Site]:
    """The sites of a target: weights in the order of modules, activations in the order of calls."""
    order = {path: number for number, path in enumerate(compressor.graph.calls)} if compressor.graph else {}
    return sorted(compressor.sites(target), key=lambda site: order.get(site.path, 0))


def _shape(compressor: Compressor, site: Site) -> tuple[int, ...]:
    if not isinstance(site, ActivationSite) or compressor.graph is None:
        return tuple(site.mask.shape)
    shape = list(compressor.graph.calls[site.path][0])
    if shape[site.batch_axis] == 1:
        del shape[site.batch_axis]
    return tuple(shape)


def _shares(compressor: Compressor, target: Target) -> dict[str, float]:
    """Of every site, the share of what it compresses. A tensor with several sites counts for each."""
    if target == Target.WEIGHT:
        counts = {site.path: float(site.mask.numel()) for site in compressor.sites(target)}
        left = sum(each.elements for each in compressor.coverage().left_out if each.target == target)
        total = sum(counts.values()) + left
    else:
        ledger = compressor.graph.ledger if compressor.graph else ()
        total = float(sum(tensor.elements for tensor in ledger))
        counts = {}
        for tensor in ledger:
            for path in tensor.sites:
                counts[path] = counts.get(path, 0.0) + tensor.elements
    return {path: count / total for path, count in counts.items()}


def _treatment(site: Site, graph: Graph | None) -> tuple[str, str]:
    if not has_effect(site, graph):
        return "left", WITHOUT_EFFECT
    quantized = "quantized" if site.own_bits is None else f"quantized to {site.own_bits} bits"
    return (f"pruned, {quantized}", "") if site.prunable else (quantized, "one of model.sites.unpruned")
