"""Which share of a network is in sites, and what is not, with the reason."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from qp_runner.compress.attach import plain_class
from qp_runner.compress.calls import prefixes
from qp_runner.compress.graph import Graph, LedgerTensor
from qp_runner.schedule import Target
from qp_runner.shares import percent

NAMED = 3  # the largest that a warning names
ENOUGH = 0.99  # below this a run starts with a warning


@dataclass(frozen=True)
class LeftOut:
    """A matrix parameter or a tensor of the ledger that is in no site.

    Attributes:
        share: of all matrix parameters, or of all elements of the ledger.
        kind: the class of the module that holds it, or the operation that computes it.
        shape: of an activation without the batch.
    """

    path: str
    target: Target
    elements: int
    share: float
    reason: str
    kind: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """How much of a network its sites hold.

    Attributes:
        weight: the share of the elements of all matrix parameters (two dimensions or more) that are in sites.
        activation: the share of the ledger's elements that are in sites.
        left_out: what is not, the largest share first.
    """

    weight: float
    activation: float
    left_out: tuple[LeftOut, ...]

    def warnings(self) -> list[str]:
        """A line for each target of which less than 99 % is in sites."""
        return [
            f"only {percent(share)} of the {what} are in sites; left out: {self._largest(target)}"
            for target, share, what in (
                (Target.WEIGHT, self.weight, "matrix parameters"),
                (Target.ACTIVATION, self.activation, "activations in memory"),
            )
            if share < ENOUGH
        ]

    def _largest(self, target: Target) -> str:
        found = [each for each in self.left_out if each.target == target]
        named = "; ".join(f"{each.path}, {percent(each.share)} ({each.reason})" for each in found[:NAMED])
        return named + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")


def coverage(
    networks: Mapping[str, nn.Module], covered: set[int], graph: Graph, reasons: Mapping[str, str]
) -> Coverage:
    """The coverage of traced networks.

    Args:
        networks: by name.
        covered: ids of the Parameters behind weight sites.
        graph: of the networks.
        reasons: why Parameters and calls are no sites, by name, where it is known.
    """
    matrices = {id(p): (name, module, p) for name, module, p in _parameters(networks) if p.dim() >= 2}
    all_weights = sum(p.numel() for _, _, p in matrices.values())
    all_activations = sum(tensor.elements for tensor in graph.ledger)
    rest = [each for key, each in matrices.items() if key not in covered]
    left = [_weight(*each, all_weights, reasons) for each in rest]
    left += [_activation(tensor, all_activations, reasons) for tensor in graph.ledger if not tensor.sites]
    left.sort(key=lambda each: -each.share)
    return Coverage(
        weight=_rest(all_weights, left, Target.WEIGHT),
        activation=_rest(all_activations, left, Target.ACTIVATION),
        left_out=tuple(left),
    )


def _weight(name: str, module: nn.Module, p: nn.Parameter, total: int, reasons: Mapping[str, str]) -> LeftOut:
    return LeftOut(
        path=name,
        target=Target.WEIGHT,
        elements=p.numel(),
        share=p.numel() / total,
        reason=reasons.get(name) or _reason(module, p),
        kind=plain_class(type(module)).__name__,
        shape=tuple(p.shape),
    )


def _activation(tensor: LedgerTensor, total: int, reasons: Mapping[str, str]) -> LeftOut:
    return LeftOut(
        path=tensor.name,
        target=Target.ACTIVATION,
        elements=tensor.elements,
        share=tensor.elements / total,
        reason=reasons.get(tensor.name) or tensor.reason,
        kind=tensor.operation,
        shape=tensor.shape,
    )


def _rest(total: int, left: Iterable[LeftOut], target: Target) -> float:
    """The share that is not left out; all of it where there is nothing."""
    missing = sum(each.elements for each in left if each.target == target)
    return (total - missing) / total if total else 1.0


def _parameters(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules():
            for own, parameter in module.named_parameters(recurse=False):
                yield prefix + (f"{path}.{own}" if path else own), module, parameter


def _reason(module: nn.Module, parameter: nn.Parameter) -> str:
    if not parameter.requires_grad:
        return "frozen"
    if isinstance(module, nn.utils.parametrize.ParametrizationList):
        return "behind a parametrization"
    return "no glob of model.sites.weight matches"
