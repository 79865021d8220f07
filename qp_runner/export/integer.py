"""The graph that a runtime computes with 8-bit integers: quantized tensors between layers, batch norms folded.

What runtimes fuse is narrow, and what they don't fuse they compute in float without a word:

- Activations are uint8 (int8 is not fused on x86): with zero point 0 behind a ReLU, which then takes no time, else 128.
  The few codes above what the site's bits allow are clipped as integers, behind the quantizer.
- Masks multiply the quantized tensor, as quantized numbers of scale 1.
- Weights are uint8 with zero point 128: on AVX2, sums of two products of uint8 and int8 saturate silently at 16 bits.
  `signed_weights` stores int8, for processors with VNNI and for runtimes that want it (OpenVINO's integer kernels).
- Weights of up to 4 bits are stored so, and widened by operations of constants that a runtime folds.

More than 8 bits, what is only pruned, and what a layer with float weights reads, stays in float (see `exact`).
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qp_runner.compress.bake import Output
from qp_runner.compress.fake_quantize import code_range
from qp_runner.export.contents import Contents, Weight
from qp_runner.export.exact import compressed, dequantized, mask_for, results_of
from qp_runner.export.folding import Layer, Norm, bias_codes, by_channel, fold, with_room_for_bias
from qp_runner.export.graph import INT4, Editor, constant_of, only_user
from qp_runner.export.marking import DOMAIN, RESULT, WEIGHT, site_of

MIDDLE = 128
BYTE = 8
TRANSPARENT = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice"}
"""Operations whose output has the scale of their input."""

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
NOT_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "HardSigmoid"}


@dataclass(frozen=True)
class Quantizer:
    """Scale and zero point of a tensor of uint8."""

    scale: float
    zero: int


class IntegerGraph:
    """Puts integer arithmetic in the place of marks.

    Attributes:
        quantizers: of the values that were dequantized.
    """

    def __init__(self, editor: Editor, contents: Contents, *, signed_weights: bool = False) -> None:
        self.editor, self.contents, self.signed = editor, contents, signed_weights
        self.weights = {each.name: each for each in contents.weights}
        self.quantizers: dict[ir.Value, Quantizer] = {}

    def put_in(self) -> None:
        """Replaces all marks."""
        results = results_of(self.contents)
        for mark in self.editor.marks(RESULT):
            name = site_of(mark)
            output = results[name]
            integer = output.scale is not None and output.bits <= BYTE and not self._read_with_floats(mark.outputs[0])
            made = self._result(mark, output, name) if integer else compressed(self.editor, mark, output, name)
            self.editor.replace(mark, made)
        for mark in self.editor.marks(WEIGHT):
            self._weight(mark, self.weights[site_of(mark)])

    def quantized(self, before: ir.Node, value: ir.Value, quantizer: Quantizer, name: str) -> ir.Value:
        """A value as uint8."""
        return self.editor.add(before, "QuantizeLinear", value, *self._parameters(quantizer), name=name)

    def dequantized(self, before: ir.Node, codes: ir.Value, quantizer: Quantizer, name: str) -> ir.Value:
        """Values of uint8 codes."""
        value = self.editor.add(before, "DequantizeLinear", codes, *self._parameters(quantizer), name=name)
        self.quantizers[value] = quantizer
        return value

    def quantizer_of(self, value: ir.Value | None) -> Quantizer | None:
        """How a value was quantized; None if it was not."""
        while value is not None and value not in self.quantizers:
            node = value.producer()
            value = node.inputs[0] if node is not None and node.op_type in TRANSPARENT else None
        return None if value is None else self.quantizers[value]

    def _parameters(self, quantizer: Quantizer) -> tuple[ir.Value, ir.Value]:
        scale = np.float32(quantizer.scale)
        return (
            self.editor.constant(f"scale/{scale.view(np.uint32):08x}", scale),
            self.editor.constant(f"zero/{quantizer.zero}", np.uint8(quantizer.zero)),
        )

    def _read_with_floats(self, value: ir.Value) -> bool:
        """Whether a layer with float weights reads a value: where that is a quantizer's, runtimes quantize the weights,
        too, which nobody has asked for.
        """
        for use in value.uses():
            node = use.node
            if node.op_type in TRANSPARENT and self._read_with_floats(node.outputs[0]):
                return True
            if node.op_type in WEIGHTED and len(node.inputs) > 1 and self._is_float_weight(node.inputs[1]):
                return True
        return False

    def _is_float_weight(self, value: ir.Value | None) -> bool:
        node = None if value is None else value.producer()
        if node is None:
            return constant_of(value) is not None
        if node.op_type == "Transpose":
            return self._is_float_weight(node.inputs[0])
        return node.domain == DOMAIN and node.op_type == WEIGHT and self.weights[site_of(node)].codes is None

    def _result(self, mark: ir.Node, output: Output, name: str) -> ir.Value:
        value = mark.inputs[0]
        assert value is not None
        assert output.scale is not None
        quantizer = Quantizer(float(output.scale), 0 if is_not_negative(value) else MIDDLE)
        low, high = (int(np.clip(quantizer.zero + code, 0, 255)) for code in code_range(output.bits))
        codes = self.quantized(mark, value, quantizer, f"{name}/codes")
        if (low, high) != (0, 255):
            ends = [self.editor.constant(f"code/{end}", np.uint8(end)) for end in (low, high)]
            codes = self.editor.add(mark, "Clip", codes, *ends, name=f"{name}/clipped")
        if output.mask is None:
            return self.dequantized(mark, codes, quantizer, f"{name}/quantized")
        unmasked = self.dequantized(mark, codes, quantizer, f"{name}/unmasked")
        mask = self.dequantized(mark, mask_for(self.editor, mark, output, name), Quantizer(1.0, 0), f"{name}/kept")
        product = self.editor.add(mark, "Mul", unmasked, mask, name=f"{name}/masked")
        again = self.quantized(mark, product, quantizer, f"{name}/masked/codes")
        return self.dequantized(mark, again, quantizer, f"{name}/quantized")

    def _weight(self, mark: ir.Node, weight: Weight) -> None:
        user = only_user(mark.outputs[0])
        layer = None
        if weight.codes is not None and weight.bits <= BYTE and user is not None and is_layer(user, mark.outputs[0]):
            layer = self._folded(user, weight)
        if layer is None or user is None:
            self.editor.replace(mark, dequantized(self.editor, mark, weight))
            return
        norm = norm_after(user)
        quantizer = self.quantizer_of(user.inputs[0])
        if quantizer is not None:
            layer = with_room_for_bias(layer, input_scale=quantizer.scale)
        inputs = (user.inputs[0], self._codes(user, weight, layer), self._bias(user, weight, layer, quantizer))
        attributes = dict(user.attributes.items())
        made = self.editor.add(user, user.op_type, *inputs, name=f"{weight.name}/out", **attributes)
        if norm is not None:
            made.shape, made.type = norm.outputs[0].shape, norm.outputs[0].type
            self.editor.replace(norm, made)
            self.editor.graph.remove(user, safe=True)
        else:
            self.editor.replace(user, made)
        self.editor.graph.remove(mark, safe=True)

    def _folded(self, user: ir.Node, weight: Weight) -> Layer | None:
        assert weight.codes is not None
        assert weight.scale is not None
        bias = constant_of(user.inputs[2]) if len(user.inputs) > 2 else None
        if len(user.inputs) > 2 and user.inputs[2] is not None and bias is None:
            return None
        norm = norm_after(user)
        found = None if norm is None else parameters_of(norm)
        return fold(weight.codes.numpy(), weight.scale.numpy(), bias, found)

    def _codes(self, before: ir.Node, weight: Weight, layer: Layer) -> ir.Value:
        """The weight: codes and what makes values of them."""
        name = weight.name
        scale = self.editor.constant(f"{name}/scale", layer.scale)
        if weight.bits <= 4 and layer.codes.min(initial=0) >= -8 and layer.codes.max(initial=0) < 8:
            codes = self._widened(before, name, layer)
        elif self.signed:
            codes = self.editor.constant(f"{name}/codes", layer.wide, np.int8)
        else:
            codes = self.editor.constant(f"{name}/codes", layer.wide + MIDDLE, np.uint8)
        zeros = np.zeros(len(layer.scale), np.int8) if self.signed else np.full(len(layer.scale), MIDDLE, np.uint8)
        zero = self.editor.constant(f"zeros/{len(layer.scale)}", zeros)
        return self.editor.add(before, "DequantizeLinear", codes, scale, zero, name=name, axis=0)

    def _widened(self, before: ir.Node, name: str, layer: Layer) -> ir.Value:
        """Codes of 4 bits as codes of 8: times the factor, plus the zero point."""
        add = self.editor.add
        codes = self.editor.constant(f"{name}/codes", layer.codes, INT4)
        factor = self.editor.constant(f"{name}/factor", by_channel(layer.factor, layer.codes).astype(np.int8))
        whole = add(before, "Cast", codes, name=f"{name}/codes/whole", to=ir.DataType.INT32)
        times = add(before, "Cast", factor, name=f"{name}/factor/whole", to=ir.DataType.INT32)
        wide = add(before, "Mul", whole, times, name=f"{name}/codes/wide")
        if self.signed:
            return add(before, "Cast", wide, name=f"{name}/codes/int8", to=ir.DataType.INT8)
        middle = self.editor.constant("middle", np.int32(MIDDLE))
        moved = add(before, "Add", wide, middle, name=f"{name}/codes/moved")
        return add(before, "Cast", moved, name=f"{name}/codes/uint8", to=ir.DataType.UINT8)

    def _bias(self, before: ir.Node, weight: Weight, layer: Layer, quantizer: Quantizer | None) -> ir.Value:
        name = f"{weight.name}/bias"
        if quantizer is None:
            return self.editor.constant(name, layer.bias, np.float32)
        codes, step = bias_codes(layer, input_scale=quantizer.scale)
        stored, scale = self.editor.constant(f"{name}/codes", codes), self.editor.constant(f"{name}/scale", step)
        return self.editor.add(before, "DequantizeLinear", stored, scale, name=name, axis=0)


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
