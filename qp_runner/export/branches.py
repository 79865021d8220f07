"""Quantizing what comes before a sum, so that the layers there run as integers too.

In training, the branches of a sum are float: only what the sum, with what is fused behind it, writes to memory is a
site. Runtimes have one kernel for a whole layer, and for a sum of integers, only if outputs of layers are quantized. So
each branch gets a quantizer of 8 bits, whose scale is chosen on training samples. Where that would change what is
behind a sum, the sum stays in float, unless `float_bias` is off.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from qp_runner.compress import choose_scale
from qp_runner.export.graph import constant_of, only_user
from qp_runner.export.integer import IntegerGraph
from qp_runner.export.integer_layers import BYTE, MIDDLE, Quantizer, quantized
from qp_runner.export.patterns import is_added, is_not_negative
from qp_runner.export.runtime import Array, call, session

SAMPLE_LIMIT = 2**17  # values of a branch from which its scale is chosen
HARMLESS = 0.01
"""Mean squared change of the codes behind a sum that is accepted where layers run as integers without, too."""


@dataclass(frozen=True)
class Sum:
    """A sum of branches, and what quantizes it (None: nothing does), with its lowest and highest code."""

    node: ir.Node
    quantizer: Quantizer | None
    ends: tuple[int, int] = (0, 255)

    def codes(self, one: Array, other: Array) -> Array:
        """The codes behind the sum."""
        assert self.quantizer is not None
        rounded = np.round((one + other) / np.float32(self.quantizer.scale)) + self.quantizer.zero
        return np.clip(rounded, *self.ends)


def quantize_branches(graph: IntegerGraph, calibration: Sequence[Sequence[Tensor]]) -> None:
    """Quantizes branches of sums, in place.

    Args:
        graph: finished but for this.
        calibration: batches of inputs.
    """
    sums = [_sum(node) for node in list(graph.editor.graph) if _is_sum(graph, node)]
    added = [value for each in sums for value in each.node.inputs if value is not None and value.producer() is not None]
    seen = _values(graph, added, calibration)
    for each in sums:
        _quantize_sum(graph, each, seen)


def _quantize_sum(graph: IntegerGraph, of: Sum, seen: dict[ir.Value, Array]) -> None:
    values = dict(seen)
    quantizers: dict[ir.Value, Quantizer] = {}
    one, two = of.node.inputs
    for value, other in ((one, two), (two, one)):
        if value is None or value not in seen or value in graph.quantizers:
            continue
        moved = graph.quantizer_of(value)  # of what only moved or chose elements of a quantized tensor: once more
        zero = 0 if is_not_negative(value) else MIDDLE
        chosen, error = (
            (moved, 0.0) if moved else _chosen(of, values[value], None if other is None else values.get(other), zero)
        )
        if graph.settings.float_bias and error > HARMLESS:
            return
        quantizers[value], values[value] = chosen, _rounded(values[value], chosen)
    for value, quantizer in quantizers.items():
        _quantize(graph, of.node, value, quantizer)


def _chosen(of: Sum, values: Array, other: Array | None, zero: int) -> tuple[Quantizer, float]:
    """A branch's quantizer: that with the scale of the sum, or that which fits the branch alone best, whichever changes
    the codes behind the sum less; and the mean squared change (infinite where it is not known).

    Where all else that is added are whole numbers of the sum's steps, the former changes none: rounding before the sum
    is then the same as rounding behind it.
    """
    own = Quantizer(float(choose_scale(torch.from_numpy(values.copy())[None], bits=BYTE, kind="float")), zero)
    if of.quantizer is None or other is None or values.shape != other.shape:
        return own, float("inf")
    wanted = of.codes(values, other)
    tried = [Quantizer(of.quantizer.scale, zero), own]
    wrong = [float(np.square(of.codes(_rounded(values, each), other) - wanted).mean()) for each in tried]
    return tried[int(np.argmin(wrong))], min(wrong)


def _rounded(values: Array, quantizer: Quantizer) -> Array:
    scale = np.float32(quantizer.scale)
    codes = np.clip(np.round(values / scale), -quantizer.zero, 255 - quantizer.zero)
    return np.asarray(codes * scale, np.float32)


def _is_sum(graph: IntegerGraph, node: ir.Node) -> bool:
    return node.op_type == "Add" and any(each in graph.layers and is_added(each) for each in node.inputs)


def _sum(node: ir.Node) -> Sum:
    user = only_user(node.outputs[0])
    while user is not None and user.op_type in ("Relu", "Clip"):
        user = only_user(user.outputs[0])
    if user is None or user.op_type != "QuantizeLinear":
        return Sum(node, None)
    scale, zero = (constant_of(each) for each in user.inputs[1:3])
    assert scale is not None
    assert zero is not None
    clip = only_user(user.outputs[0])
    ends = [constant_of(each) for each in clip.inputs[1:3]] if clip is not None and clip.op_type == "Clip" else []
    low, high = (int(each) for each in ends if each is not None) if len(ends) == 2 else (0, 255)
    return Sum(node, Quantizer(float(scale), int(zero)), (low, high))


def _quantize(graph: IntegerGraph, node: ir.Node, value: ir.Value, quantizer: Quantizer) -> None:
    name, place = f"{value.name}/branch", list(node.inputs).index(value)
    codes = quantized(graph.editor, node, value, quantizer, f"{name}/codes")
    node.replace_input_with(place, graph.dequantized(node, codes, quantizer, f"{name}/quantized"))


def _values(
    graph: IntegerGraph, values: list[ir.Value], calibration: Sequence[Sequence[Tensor]]
) -> dict[ir.Value, Array]:
    """Some of the elements that each value has for the batches, those of equal shapes at the same places."""
    values = list(dict.fromkeys(values))
    if not values:
        return {}
    names = [f"branch{number}" for number in range(len(values))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(_probe(graph, values, names).SerializeToString())
        runner = session(path)
        batches: list[list[Array]] = [call(runner, [each.cpu().numpy() for each in batch]) for batch in calibration]
    first = len(batches[0]) - len(values)
    seen = [np.concatenate([batch[first + number].ravel() for batch in batches]) for number in range(len(values))]
    return {value: each[:: len(each) // SAMPLE_LIMIT + 1] for value, each in zip(values, seen, strict=True)}


def _probe(graph: IntegerGraph, values: list[ir.Value], names: list[str]) -> onnx.ModelProto:
    """The graph with these values among its outputs."""
    for value, name in zip(values, names, strict=True):
        value.name = name
    proto = ir.to_proto(graph.editor.model)
    known = {each.name for each in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in known
    )
    return proto
