"""What surrounds a node of an ONNX graph: layers, their batch norms, what quantizes them."""

import onnx_ir as ir

from qp_runner.export.folding import Norm
from qp_runner.export.graph import constant_of, only_user

TRANSPARENT = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice"}
"""Operations whose output has the scale of their input."""

NOT_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "HardSigmoid"}


def is_layer(user: ir.Node, weight: ir.Value) -> bool:
    """Whether a node is a convolution or a linear layer that reads the weight as such."""
    if len(user.inputs) < 2 or user.inputs[1] is not weight:
        return False
    if user.op_type == "Gemm":
        plain = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}
        defaults = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
        given = {name: each.value for name, each in user.attributes.items()}
        return defaults | given == plain
    return user.op_type == "Conv"


def is_factor(weight: ir.Value) -> bool:
    """Whether a MatMul reads a weight, as that of a linear layer of sequences."""
    nodes = [use.node for use in weight.uses()]
    return any(n.op_type == "MatMul" or (n.op_type == "Transpose" and is_factor(n.outputs[0])) for n in nodes)


def norm_after(layer: ir.Node) -> ir.Node | None:
    """The batch norm that alone reads a layer's output."""
    user = only_user(layer.outputs[0])
    fits = user is not None and user.op_type == "BatchNormalization" and user.inputs[0] is layer.outputs[0]
    return user if fits and user is not None and parameters_of(user) is not None else None


def parameters_of(norm: ir.Node) -> Norm | None:
    """A batch norm's numbers; None if they are not constant."""
    arrays = [constant_of(each) for each in norm.inputs[1:5]]
    if any(each is None for each in arrays):
        return None
    gamma, beta, mean, variance = (each for each in arrays if each is not None)
    epsilon = norm.attributes.get("epsilon")
    return Norm(gamma, beta, mean, variance, 1e-5 if epsilon is None else epsilon.as_float())


def is_quantized(value: ir.Value) -> bool:
    """Whether a value is quantized before anything but an activation function reads it, so that its layer is fused."""
    user = only_user(value)
    while user is not None and user.op_type in ("Relu", "Clip"):
        user = only_user(user.outputs[0])
    return user is not None and user.op_type == "QuantizeLinear"


def is_added(value: ir.Value) -> bool:
    """Whether only a sum reads a value."""
    user = only_user(value)
    return user is not None and user.op_type == "Add"


def is_not_negative(value: ir.Value | None) -> bool:
    """Whether a value comes from a ReLU or the like, also through operations that only choose or move elements."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in NOT_NEGATIVE:
            return True
        if node.op_type == "Clip":
            low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
            return low is not None and float(low) >= 0
        value = node.inputs[0] if node.op_type in TRANSPARENT else None
    return False
