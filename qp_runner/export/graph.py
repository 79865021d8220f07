"""Changing an ONNX graph: constants, nodes, and what stands for what."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray
from onnx_ir.passes import common as passes

from qp_runner.export.marking import DOMAIN, OPSET

Array = NDArray[Any]
INT4 = ml_dtypes.int4


class Editor:
    """Adds to a graph.

    Scales and zero points of a whole tensor have to be scalars: runtimes do not fuse what has a dimension of one.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        self._constants: dict[str, ir.Value] = {}

    def constant(self, name: str, value: ArrayLike, dtype: Any = None) -> ir.Value:
        """An initializer; the same one for the same name."""
        if name not in self._constants:
            array = np.asarray(value, dtype)
            tensor = ir.tensor(array, name=name)
            made = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
            made.const_value = tensor
            self.graph.initializers[name] = made
            self._constants[name] = made
        return self._constants[name]

    def add(self, before: ir.Node, operator: str, *inputs: ir.Value | None, name: str, **attributes: Any) -> ir.Value:
        """A node of one output, before another one; returns the output."""
        node = ir.node(operator, list(inputs), attributes=attributes, name=name)
        node.outputs[0].name = name
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def replace(self, node: ir.Node, value: ir.Value) -> None:
        """Puts a value in place of a node's output; removes the node."""
        [old] = node.outputs
        value.shape, value.type = value.shape or old.shape, value.type or old.type
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def marks(self, kind: str) -> list[ir.Node]:
        """The marks of a kind, in order."""
        return [node for node in self.graph if node.domain == DOMAIN and node.op_type == kind]


def constant_of(value: ir.Value | None) -> Array | None:
    """The array of a constant; None for anything else."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, which is no output of the graph; None if there are more, or none."""
    users = [use.node for use in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def finished(editor: Editor) -> onnx.ModelProto:
    """The model, without what is not used and without notes, checked in full.

    Raises:
        onnx.checker.ValidationError: it is no valid model.
    """
    model = editor.model
    model.opset_imports.pop(DOMAIN, None)
    model.opset_imports[""] = OPSET
    for each in (
        passes.RemoveUnusedNodesPass(),
        passes.DeduplicateInitializersPass(),
        passes.TopologicalSortPass(),
        passes.NameFixPass(),
        passes.ClearMetadataAndDocStringPass(),  # 40 % of a small file
    ):
        each(model)
    for node in model.graph:
        node.name = None
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = output.type = None
    model.graph.name = "network"
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto
