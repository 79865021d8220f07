"""One network as an ONNX file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qp_runner.compress import Compressor
from qp_runner.errors import ExportError
from qp_runner.export.branches import quantize_branches
from qp_runner.export.contents import Contents
from qp_runner.export.exact import put_in_exact
from qp_runner.export.graph import Editor, finished
from qp_runner.export.integer import IntegerGraph
from qp_runner.export.marking import RESULT, WEIGHT, Sizes, marked_graph, site_of
from qp_runner.export.settings import ExportSettings

PARTS = {"codes": "codes", "scale": "scales", "bias": "floats", "mask": "masks"}


@dataclass(frozen=True)
class NetworkToExport:
    """A network, and what is known of how it is called.

    Attributes:
        inputs: of a batch of at least two samples.
        free: by input, the dimensions beside the batch whose size is not fixed.
        calibration: further batches, of training samples.
    """

    network: nn.Module
    compressor: Compressor
    contents: Contents
    inputs: Sequence[Tensor]
    free: Sizes
    calibration: Sequence[Sequence[Tensor]]


def save_onnx(path: Path, given: NetworkToExport, settings: ExportSettings, *, float_path: Path | None = None) -> None:
    """Writes a network as ONNX and, for comparison, the same network without sites. Raises ExportError."""
    _check_type(given.contents)
    marked = ir.to_proto(
        marked_graph(given.compressor, given.network, given.contents, inputs=given.inputs, free=given.free)
    )
    editor = Editor(ir.from_proto(marked))
    if settings.mode == "exact":
        put_in_exact(editor, given.contents)
    else:
        graph = IntegerGraph(editor, given.contents, settings)
        graph.put_in()
        if settings.branches:
            quantize_branches(graph, given.calibration)
    path.write_bytes(finished(editor).SerializeToString())
    if float_path is not None:
        float_path.write_bytes(_float(marked, given.contents).SerializeToString())


def _check_type(contents: Contents) -> None:
    """ExportError for a network of other numbers than float32."""
    for name, value in ({each.name: each.value for each in contents.weights} | contents.parameters).items():
        if value.is_floating_point() and value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise ExportError(f"ONNX needs a network of float32; its {name} is {kind}; use packed")


def _float(marked: onnx.ModelProto, contents: Contents) -> onnx.ModelProto:
    """The network without sites: the same weights in float, results as they are."""
    editor = Editor(ir.from_proto(marked))
    values = {each.name: each.value.numpy() for each in contents.weights}
    for mark in editor.marks(WEIGHT):
        editor.replace(mark, editor.constant(site_of(mark), values[site_of(mark)]))
    for mark in editor.marks(RESULT):
        [value] = mark.inputs
        assert value is not None
        editor.replace(mark, value)
    return finished(editor)


def sections(path: Path) -> dict[str, int]:
    """A file's bytes by what they hold; `graph` is all that is no number."""
    sizes = dict.fromkeys(("codes", "scales", "floats", "masks"), 0)
    for part, size in _constants(onnx.load(path)):
        sizes[part] += size
    return sizes | {"graph": path.stat().st_size - sum(sizes.values())}


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    for each in model.graph.initializer:
        parts = [PARTS[word] for word in reversed(each.name.split("/")) if word in PARTS]
        whole = "floats" if "/bias/" in each.name else parts[0] if parts else "floats"
        elements = int(np.prod(each.dims, dtype=np.int64))
        packed = each.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
        yield whole, -(-elements // 2) if packed else elements * _width(each)


def _width(tensor: onnx.TensorProto) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
