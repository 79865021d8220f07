"""The graph that a runtime computes with 8-bit integers: quantized tensors between layers, batch norms folded.

What runtimes fuse is narrow, and what they don't fuse they compute in float without a word:

- Activations are uint8 (int8 is not fused on x86): with zero point 0 behind a ReLU, which then takes no time, else 128.
  The few codes above what the site's bits allow are clipped as integers, behind the quantizer.
- Masks multiply the quantized tensor, as quantized numbers of scale 1.
- Weights are uint8 with zero point 128: on AVX2, sums of two products of uint8 and int8 saturate silently at 16 bits.
  `signed_weights` stores int8, for processors with VNNI and for runtimes that want it (OpenVINO's integer kernels).
- Weights of up to 4 bits are stored so, and widened by operations of constants that a runtime folds.
- Biases of fused layers are int32, in steps of input scale times weight scale: about a thousandth of the next codes
  rounds otherwise than in training, and each of these changes more of them in the layers behind it. `float_bias`
  avoids that: products are added up as integers (ConvInteger, MatMulInteger) and the bias is added in float. Then
  branches run as integers, too, and outputs are nearly those of `exact`; depthwise convolutions are slower so.

More than 8 bits, what is only pruned, and what a layer with float weights reads, stays in float (see `exact`).
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qp_runner.compress.bake import Output
from qp_runner.compress.fake_quantize import code_range
from qp_runner.export.contents import Contents, Weight
from qp_runner.export.exact import compressed, dequantized, mask_for, results_of
from qp_runner.export.folding import Layer, bias_codes, by_channel, fold, with_room_for_bias
from qp_runner.export.graph import INT4, Editor, constant_of, only_user
from qp_runner.export.marking import DOMAIN, RESULT, WEIGHT, site_of
from qp_runner.export.patterns import TRANSPARENT, is_layer, is_not_negative, is_quantized, norm_after, parameters_of
from qp_runner.export.settings import ExportSettings

MIDDLE = 128
BYTE = 8
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


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

    def __init__(self, editor: Editor, contents: Contents, settings: ExportSettings) -> None:
        self.editor, self.contents, self.settings = editor, contents, settings
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
        if quantizer is not None and self.settings.float_bias:
            made = self._with_float_bias(user, weight, layer, quantizer)
        else:
            fused = self.settings.branches or is_quantized((norm or user).outputs[0])
            made = self._layer(user, weight, layer, quantizer if fused else None)
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

    def _layer(self, user: ir.Node, weight: Weight, layer: Layer, quantizer: Quantizer | None) -> ir.Value:
        """A layer of dequantized numbers, which a runtime fuses if its input and its output are quantized. The
        quantizer is that of the input, for a bias in whole steps.
        """
        if quantizer is not None:
            layer = with_room_for_bias(layer, input_scale=quantizer.scale)
        name, channels = weight.name, len(layer.scale)
        scale = self.editor.constant(f"{name}/scale", layer.scale)
        zero = self.editor.constant(f"zeros/{channels}", np.full(channels, *self._middle()))
        codes = self._codes(user, weight, layer)
        floats = self.editor.add(user, "DequantizeLinear", codes, scale, zero, name=name, axis=0)
        inputs = (user.inputs[0], floats, self._bias(user, weight, layer, quantizer))
        attributes = dict(user.attributes.items())
        return self.editor.add(user, user.op_type, *inputs, name=f"{name}/out", **attributes)

    def _with_float_bias(self, user: ir.Node, weight: Weight, layer: Layer, quantizer: Quantizer) -> ir.Value:
        """A layer whose products are added up as integers; the rest is in float, after one step of multiplying."""
        add, constant, name = self.editor.add, self.editor.constant, weight.name
        zero, middle = self._parameters(quantizer)[1], constant("middle/weight", np.array(*self._middle()))
        inputs, codes = self._codes_of(user, quantizer, name), self._codes(user, weight, layer)
        if user.op_type == "Conv":
            attributes = dict(user.attributes.items())
            sums = add(user, "ConvInteger", inputs, codes, zero, middle, name=f"{name}/sums", **attributes)
        else:
            columns = add(user, "Transpose", codes, name=f"{name}/columns", perm=[1, 0])
            sums = add(user, "MatMulInteger", inputs, columns, zero, middle, name=f"{name}/sums")
        shape = (-1, *[1] * (weight.value.ndim - 2))
        step = (np.float64(np.float32(quantizer.scale)) * layer.scale).astype(np.float32).reshape(shape)
        floats = add(user, "Cast", sums, name=f"{name}/sums/float", to=ir.DataType.FLOAT)
        scaled = add(user, "Mul", floats, constant(f"{name}/scale", step), name=f"{name}/products")
        bias = constant(f"{name}/bias", layer.bias.astype(np.float32).reshape(shape))
        return add(user, "Add", scaled, bias, name=f"{name}/out")

    def _codes_of(self, user: ir.Node, quantizer: Quantizer, name: str) -> ir.Value:
        """The codes of a layer's input, which is quantized; those that were only moved are computed again."""
        value = user.inputs[0]
        assert value is not None
        node = value.producer()
        if node is not None and node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            return node.inputs[0]
        return self.quantized(user, value, quantizer, f"{name}/input")

    def _middle(self) -> tuple[int, type]:
        """The zero point of weights, and their type."""
        return (0, np.int8) if self.settings.signed_weights else (MIDDLE, np.uint8)

    def _codes(self, before: ir.Node, weight: Weight, layer: Layer) -> ir.Value:
        """The weight's codes, of 8 bits."""
        if weight.bits <= 4 and layer.codes.min(initial=0) >= -8 and layer.codes.max(initial=0) < 8:
            return self._widened(before, weight.name, layer)
        middle, kind = self._middle()
        return self.editor.constant(f"{weight.name}/codes", layer.wide + middle, kind)

    def _widened(self, before: ir.Node, name: str, layer: Layer) -> ir.Value:
        """Codes of 4 bits as codes of 8: times the factor, plus the zero point."""
        add = self.editor.add
        codes = self.editor.constant(f"{name}/codes", layer.codes, INT4)
        factor = self.editor.constant(f"{name}/factor", by_channel(layer.factor, layer.codes).astype(np.int8))
        whole = add(before, "Cast", codes, name=f"{name}/codes/whole", to=ir.DataType.INT32)
        times = add(before, "Cast", factor, name=f"{name}/factor/whole", to=ir.DataType.INT32)
        wide = add(before, "Mul", whole, times, name=f"{name}/codes/wide")
        if self.settings.signed_weights:
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
