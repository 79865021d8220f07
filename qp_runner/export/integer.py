"""The graph that a runtime computes with 8-bit integers: quantized tensors between layers, batch norms folded.

What runtimes fuse is narrow, and what they don't fuse they compute in float without a word:

- Activations are uint8 (int8 is not fused on x86): with zero point 0 behind a ReLU, which then takes no time, else 128.
  The few codes above what the site's bits allow are clipped as integers, behind the quantizer.
- Masks multiply the quantized tensor, as quantized numbers of scale 1.
- Weights are uint8 with zero point 128: on AVX2, sums of two products of uint8 and int8 saturate silently at 16 bits.
  `signed_weights` stores int8, for processors with VNNI and for runtimes that want it (OpenVINO's integer kernels).
- Weights of up to 4 bits are stored so, and widened by operations of constants that a runtime folds.
- Biases of kernels for a whole layer are int32, in steps of input scale times weight scale: about a thousandth of the
  next codes rounds otherwise than in training, and each of these changes more of them in the layers behind it. With
  `float_bias` (the default) products are added up as integers (ConvInteger, MatMulInteger) and the bias is added in
  float, so that outputs are nearly those of `exact`. Layers before sums run as integers, too. Depthwise convolutions
  add up the same codes in float, which makes a whole network twice as fast, unless `branches` asks for integers.
- A batch norm of negative scale changes the signs of a kernel's codes. Where one is −128, the bias is added in float.

More than 8 bits, what is only pruned, and what a layer with float weights reads, stays in float (see `exact`).
"""

import numpy as np
import onnx_ir as ir

from qp_runner.compress.bake import Output
from qp_runner.compress.fake_quantize import code_range
from qp_runner.export.contents import Contents, Weight
from qp_runner.export.exact import compressed, dequantized, mask_for, results_of, write_norms
from qp_runner.export.graph import Editor, constant_of, only_user
from qp_runner.export.integer_layers import (
    BYTE,
    MIDDLE,
    LayerWriter,
    Quantizer,
    Reader,
    folded,
    parameters,
    quantized,
    scale_and_offset,
)
from qp_runner.export.marking import DOMAIN, RESULT, WEIGHT, site_of
from qp_runner.export.patterns import (
    TRANSPARENT,
    is_added,
    is_layer,
    is_not_negative,
    is_quantized,
    norm_after,
    parameters_of,
)
from qp_runner.export.settings import ExportSettings

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class IntegerGraph:
    """Puts integer arithmetic in the place of marks.

    Attributes:
        quantizers: of the values that were dequantized.
        layers: outputs of layers of integers.
    """

    def __init__(self, editor: Editor, contents: Contents, settings: ExportSettings) -> None:
        self.editor, self.contents, self.settings = editor, contents, settings
        self.weights = {each.name: each for each in contents.weights}
        self.quantizers: dict[ir.Value, Quantizer] = {}
        self.layers: set[ir.Value] = set()
        self._write = LayerWriter(editor, signed_weights=settings.signed_weights)

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
        write_norms(self.editor)

    def dequantized(self, before: ir.Node, codes: ir.Value, quantizer: Quantizer, name: str) -> ir.Value:
        """Values of uint8 codes."""
        value = self.editor.add(before, "DequantizeLinear", codes, *parameters(self.editor, quantizer), name=name)
        self.quantizers[value] = quantizer
        return value

    def quantizer_of(self, value: ir.Value | None) -> Quantizer | None:
        """How a value was quantized; None if it was not."""
        while value is not None and value not in self.quantizers:
            node = value.producer()
            value = node.inputs[0] if node is not None and node.op_type in TRANSPARENT else None
        return None if value is None else self.quantizers[value]

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
        codes = quantized(self.editor, mark, value, quantizer, f"{name}/codes")
        if (low, high) != (0, 255):
            ends = [self.editor.constant(f"code/{end}", np.uint8(end)) for end in (low, high)]
            codes = self.editor.add(mark, "Clip", codes, *ends, name=f"{name}/clipped")
        if output.mask is None:
            return self.dequantized(mark, codes, quantizer, f"{name}/quantized")
        unmasked = self.dequantized(mark, codes, quantizer, f"{name}/unmasked")
        mask = self.dequantized(mark, mask_for(self.editor, mark, output, name), Quantizer(1.0, 0), f"{name}/kept")
        product = self.editor.add(mark, "Mul", unmasked, mask, name=f"{name}/masked")
        again = quantized(self.editor, mark, product, quantizer, f"{name}/masked/codes")
        return self.dequantized(mark, again, quantizer, f"{name}/quantized")

    def _weight(self, mark: ir.Node, weight: Weight) -> None:
        user = only_user(mark.outputs[0])
        made = None
        if weight.codes is not None and weight.bits <= BYTE and user is not None and is_layer(user, mark.outputs[0]):
            made = self._integer(user, weight)
        if made is None or user is None:
            self.editor.replace(mark, dequantized(self.editor, mark, weight))
            return
        self.layers.add(made)
        norm = norm_after(user)
        if norm is not None:
            made.shape, made.type = norm.outputs[0].shape, norm.outputs[0].type
            self.editor.replace(norm, made)
            self.editor.graph.remove(user, safe=True)
        else:
            self.editor.replace(user, made)
        self.editor.graph.remove(mark, safe=True)

    def _integer(self, user: ir.Node, weight: Weight) -> ir.Value | None:
        """What a layer, with its batch norm, computes; None where both stay as they are."""
        bias, norm = constant_of(user.inputs[2]) if len(user.inputs) > 2 else None, norm_after(user)
        if bias is None and len(user.inputs) > 2 and user.inputs[2] is not None:
            return None
        if bias is not None and bias.ndim > 1:  # of a Gemm: one row, or another bias for each sample
            if len(bias) > 1:
                return None
            bias = bias[0]
        value, out = user.inputs[0], (norm or user).outputs[0]
        assert value is not None
        reader = Reader(weight, user.op_type, value, dict(user.attributes.items()), self.quantizer_of(value))
        found = None if norm is None else parameters_of(norm)
        fused = None if self.settings.float_bias else folded(weight, bias, found)
        if fused is not None:
            whole = is_quantized(out) or (self.settings.branches and is_added(out))
            return self._write.fused(user, reader, fused, whole_bias=whole)
        if reader.quantizer is None:
            return None
        step, offset = scale_and_offset(weight, bias, found, input_scale=reader.quantizer.scale)
        if reader.is_depthwise and not self.settings.branches:
            return self._write.depthwise(user, reader, step, offset)
        return self._write.with_float_bias(user, reader, step, offset)
