"""Quantizing what comes before a sum, so that the layers there run as integers too.

In training, the branches of a sum are float: only what the sum, with what is fused behind it, writes to memory is a
site. Runtimes fuse a convolution into an integer kernel only if its own output is quantized. So each branch gets a
quantizer of 8 bits, whose scale is chosen on training samples like that of a site.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from qp_runner.compress import choose_scale
from qp_runner.export.graph import only_user
from qp_runner.export.integer import BYTE, MIDDLE, IntegerGraph, Quantizer
from qp_runner.export.patterns import is_not_negative
from qp_runner.export.runtime import Array, call, session

LAYERS = {"Conv", "Gemm"}
SAMPLE_LIMIT = 2**17  # values of a branch from which its scale is chosen


def quantize_branches(graph: IntegerGraph, calibration: Sequence[Sequence[Tensor]]) -> None:
    """Quantizes branches of sums, in place.

    Args:
        graph: finished but for this.
        calibration: batches of inputs.
    """
    float_branches: list[tuple[ir.Node, ir.Value]] = []
    moved: list[tuple[ir.Node, ir.Value]] = []
    for node in list(graph.editor.graph):
        if node.op_type != "Add" or not any(_is_layer(each) for each in node.inputs):
            continue
        for value in node.inputs:
            if value is None or value.const_value is not None or value in graph.quantizers:
                continue
            (float_branches if graph.quantizer_of(value) is None else moved).append((node, value))
    scales = _scales(graph, [value for _, value in float_branches], calibration)
    for (node, value), scale in zip(float_branches, scales, strict=True):
        _quantize(graph, node, value, Quantizer(scale, 0 if is_not_negative(value) else MIDDLE))
    for node, value in moved:  # what moved or chose elements of a quantized tensor: the same codes again
        quantizer = graph.quantizer_of(value)
        assert quantizer is not None
        _quantize(graph, node, value, quantizer)


def _is_layer(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type in LAYERS and value is not None and only_user(value) is not None


def _quantize(graph: IntegerGraph, node: ir.Node, value: ir.Value, quantizer: Quantizer) -> None:
    name = f"{value.name}/branch"
    codes = graph.quantized(node, value, quantizer, f"{name}/codes")
    made = graph.dequantized(node, codes, quantizer, f"{name}/quantized")
    node.replace_input_with(list(node.inputs).index(value), made)


def _scales(graph: IntegerGraph, values: list[ir.Value], calibration: Sequence[Sequence[Tensor]]) -> list[float]:
    """A scale for each value, which minimises the squared error over the batches."""
    if not values:
        return []
    names = [f"branch{number}" for number in range(len(values))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(_probe(graph, values, names).SerializeToString())
        runner = session(path)
        batches: list[list[Array]] = [call(runner, [each.cpu().numpy() for each in batch]) for batch in calibration]
    first = len(batches[0]) - len(values)
    seen = [np.concatenate([batch[first + number].ravel() for batch in batches]) for number in range(len(values))]
    rows = [torch.from_numpy(each[:: len(each) // SAMPLE_LIMIT + 1].copy())[None] for each in seen]
    return [float(choose_scale(each, bits=BYTE, kind="float")) for each in rows]


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
