"""A network's ONNX graph with marks where its sites are.

The network is baked, and each site becomes an operation of a domain of our own, which torch's exporter hands on as it
is. A weight's mark is a parametrization: the exporter, which sees no constant behind it, does not fold a batch norm
into it. What the marks stand for is put in later (see `exact` and `integer`).
"""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from qp_runner.compress import Compressor
from qp_runner.compress.attach import CALLS
from qp_runner.compress.bake import RANGE, BakedResult, compress_output
from qp_runner.compress.calls import first_tensor, numbered, with_first
from qp_runner.compress.places import CallPlace
from qp_runner.errors import ExportError
from qp_runner.export.contents import Contents

DOMAIN, WEIGHT, RESULT, SITE = "qp_runner", "Weight", "Result", "site"
OPSET = 21  # the first with 4-bit and 16-bit quantized types

Sizes = Sequence[Sequence[int]]


def marked_graph(
    compressor: Compressor, network: nn.Module, contents: Contents, *, inputs: Sequence[Tensor], free: Sizes = ()
) -> ir.Model:
    """The graph of a network, with marks.

    Args:
        compressor: has the sites.
        network: one of its networks.
        contents: of the network.
        inputs: of a batch of at least two samples; dimension 0 is the batch.
        free: by input, other dimensions whose sizes are not fixed.

    Raises:
        ExportError: torch can't export it.
    """
    marked = _marked(compressor, network, contents)
    dimensions = [
        {0: torch.export.Dim.DYNAMIC} | dict.fromkeys(free[i] if free else (), torch.export.Dim.DYNAMIC)
        for i in range(len(inputs))
    ]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                marked,
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=_by_parameter(marked, dimensions),
                verbose=False,
            )
    except Exception as error:  # of any kind, and many lines
        lines = [line for line in str(error.__cause__ or error).splitlines() if line.strip()]
        raise ExportError(f"torch can't export {type(network).__name__}: {lines[0] if lines else error}") from error
    assert program is not None
    return program.model


def _by_parameter(network: nn.Module, dimensions: list[dict[int, Any]]) -> tuple[Any, ...]:
    """What is free of each argument, in the structure of the forward pass's parameters: those of `*args` are one."""
    kinds = [each.kind for each in inspect.signature(network.forward).parameters.values()]
    together = bool(kinds) and kinds[0] == inspect.Parameter.VAR_POSITIONAL
    return (tuple(dimensions),) if together else tuple(dimensions)


def site_of(node: ir.Node) -> str:
    """The name of a mark's site."""
    return node.attributes[SITE].as_string()


def call_key(place: CallPlace) -> str:
    """The name of a call's site."""
    return numbered(place.name, place.number)


class _WeightMark(nn.Module):
    """Stands for a weight's value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, weight: Tensor) -> Tensor:
        """The mark, of the weight."""
        return _mark(WEIGHT, weight, self.name)


class _OutputMark:
    """Stands for what is done with a module's output."""

    def __init__(self, name: str, axis: int) -> None:
        self.name, self.axis = name, axis

    def __call__(self, _module: object, _args: object, output: Any) -> Any:
        """The mark, of a forward hook's output."""
        first = first_tensor(output)
        assert first is not None
        with torch._C.DisableTorchFunction():
            moved = first.movedim(self.axis, 0) if self.axis else first
            marked = _mark(RESULT, moved, self.name)
            return with_first(output, marked.movedim(0, self.axis) if self.axis else marked)


class _ResultMark(nn.Module):
    """Stands for what is done with a call's result."""

    def __init__(self, mark: _OutputMark) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, result: Any) -> Any:
        """The mark, of the result."""
        return self.mark(None, (), result)


def _mark(kind: str, tensor: Tensor, name: str) -> Tensor:
    marked: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{kind}", [tensor], {SITE: name}, dtype=tensor.dtype, shape=tensor.shape, version=1
    )
    return marked


def _marked(compressor: Compressor, network: nn.Module, contents: Contents) -> nn.Module:
    baked = compressor.bake(network).cpu().eval()
    for path, module in list(baked.named_modules()):
        for key, hook in list(module._forward_hooks.items()):
            if hook is compress_output:
                module._forward_hooks[key] = _OutputMark(path, getattr(module, RANGE)[2])
    calls = baked.__dict__.get(CALLS)
    if calls is not None:
        _mark_calls(calls.sites)
    names = {each.name for each in contents.weights}
    names |= {alias for alias, first in contents.aliases.items() if first in names}
    for name in sorted(names):
        path, _, own = name.rpartition(".")
        module = baked.get_submodule(path)
        if own in module._parameters:  # not so under the second name of one module
            first = contents.aliases.get(name, name)
            register_parametrization(module, own, _WeightMark(first), unsafe=True)
    return baked


def _mark_calls(sites: dict[str, list[Any]]) -> None:
    for name, hands in sites.items():
        for number, hand in enumerate(hands):
            if isinstance(hand, BakedResult):
                hands[number] = _ResultMark(_OutputMark(numbered(name, number), hand.limits[2]))
