"""Layers of integers: convolutions and linear layers, with their batch norm, of quantized inputs and 8-bit weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from qp_runner.export.contents import Weight
from qp_runner.export.exact import linear
from qp_runner.export.folding import Codes, Floats, Layer, Norm, bias_codes, by_channel, fold, with_room_for_bias
from qp_runner.export.graph import INT4, Array, Editor

MIDDLE = 128
BYTE = 8


@dataclass(frozen=True)
class Quantizer:
    """Scale and zero point of a tensor of uint8."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Reader:
    """What reads a weight: its operation and attributes, its input, and how that was quantized (None: it was not)."""

    weight: Weight
    operator: str
    value: ir.Value
    attributes: dict[str, Any]
    quantizer: Quantizer | None

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel of the input is filtered alone."""
        group = self.attributes.get("group")
        return group is not None and group.as_int() > 1 and self.weight.value.shape[1] == 1


def parameters(editor: Editor, quantizer: Quantizer) -> tuple[ir.Value, ir.Value]:
    """A quantizer's constants."""
    scale = np.float32(quantizer.scale)
    return (
        editor.constant(f"scale/{scale.view(np.uint32):08x}", scale),
        editor.constant(f"zero/{quantizer.zero}", np.uint8(quantizer.zero)),
    )


def quantized(editor: Editor, before: ir.Node, value: ir.Value, quantizer: Quantizer, name: str) -> ir.Value:
    """A value as uint8."""
    return editor.add(before, "QuantizeLinear", value, *parameters(editor, quantizer), name=name)


def folded(weight: Weight, bias: Array | None, norm: Norm | None) -> Layer | None:
    """A layer with its batch norm in it; None where that can't be (see `fold`)."""
    assert weight.codes is not None
    assert weight.scale is not None
    return fold(weight.codes.numpy(), weight.scale.numpy(), bias, norm)


def scale_and_offset(
    weight: Weight, bias: Array | None, norm: Norm | None, *, input_scale: float
) -> tuple[Floats, Floats]:
    """What makes the output of a layer and its batch norm of sums of codes: `step · sum + offset`, float32 [channels].
    Both may be negative, or zero.
    """
    assert weight.scale is not None
    scale = weight.scale.numpy()
    alpha, beta = (np.ones(1), np.zeros(1)) if norm is None else linear(norm)
    step = alpha.astype(np.float64) * scale * np.float32(input_scale)
    offset = beta.astype(np.float64) + (0 if bias is None else alpha.astype(np.float64) * bias)
    return step.astype(np.float32), np.broadcast_to(offset, scale.shape).astype(np.float32)


class LayerWriter:
    """Puts layers into a graph. `before` is the node before which a layer's nodes stand."""

    def __init__(self, editor: Editor, *, signed_weights: bool) -> None:
        self.editor = editor
        self.middle = 0 if signed_weights else MIDDLE
        self.kind: type = np.int8 if signed_weights else np.uint8

    def fused(self, before: ir.Node, reader: Reader, layer: Layer, *, whole_bias: bool) -> ir.Value:
        """A layer of dequantized numbers, which a runtime fuses if its input and its output are quantized, and its bias
        is in whole steps.
        """
        quantizer = reader.quantizer if whole_bias else None
        if quantizer is not None:
            layer = with_room_for_bias(layer, input_scale=quantizer.scale)
        name, channels = f"{reader.weight.name}/fused", len(layer.scale)
        scale = self.editor.constant(f"{name}/scale", layer.scale)
        zero = self.editor.constant(f"zeros/{channels}", np.full(channels, self.middle, self.kind))
        codes = self._codes(before, name, reader.weight.bits, layer.codes, layer.factor)
        floats = self.editor.add(before, "DequantizeLinear", codes, scale, zero, name=name, axis=0)
        inputs = (reader.value, floats, self._bias(before, name, layer, quantizer))
        return self.editor.add(before, reader.operator, *inputs, name=f"{name}/out", **reader.attributes)

    def with_float_bias(self, before: ir.Node, reader: Reader, step: Floats, offset: Floats) -> ir.Value:
        """A layer whose products are added up as integers; what is left is `step · sum + offset`, in float."""
        add, constant, name = self.editor.add, self.editor.constant, reader.weight.name
        inputs, zero = self._inputs(before, reader)
        codes, middle = self._plain_codes(before, reader.weight), constant("middle/weight", self.middle, self.kind)
        if reader.operator == "Conv":
            sums = add(before, "ConvInteger", inputs, codes, zero, middle, name=f"{name}/sums", **reader.attributes)
        else:
            columns = add(before, "Transpose", codes, name=f"{name}/columns", perm=[1, 0])
            sums = add(before, "MatMulInteger", inputs, columns, zero, middle, name=f"{name}/sums")
        bias = constant(f"{name}/bias", offset.reshape(-1, *[1] * (reader.weight.value.ndim - 2)))
        scale = constant(f"{name}/scale", step)
        products = add(before, "DequantizeLinear", sums, scale, name=f"{name}/products", axis=1)
        return add(before, "Add", products, bias, name=f"{name}/out")

    def depthwise(self, before: ir.Node, reader: Reader, step: Floats, offset: Floats) -> ir.Value:
        """A depthwise convolution in float, of an input of whole numbers. It is cast: behind a DequantizeLinear, a
        runtime's own pass would quantize the weights once more.
        """
        add, constant, name = self.editor.add, self.editor.constant, reader.weight.name
        inputs, _ = self._inputs(before, reader)
        codes = add(before, "Cast", self._plain_codes(before, reader.weight), name=f"{name}/wide", to=ir.DataType.FLOAT)
        moved = add(before, "Sub", codes, constant("middle/float", np.float32(self.middle)), name=f"{name}/moved")
        scale = constant(f"{name}/scale", by_channel(step, reader.weight.value.numpy()))
        scaled = add(before, "Mul", moved, scale, name=f"{name}/scaled")
        value = add(before, "Cast", inputs, name=f"{name}/input/wide", to=ir.DataType.FLOAT)
        if reader.quantizer is not None and reader.quantizer.zero:
            value = add(before, "Sub", value, constant("zero/float", np.float32(MIDDLE)), name=f"{name}/input/moved")
        bias = constant(f"{name}/bias", offset)
        return add(before, "Conv", value, scaled, bias, name=f"{name}/out", **reader.attributes)

    def _inputs(self, before: ir.Node, reader: Reader) -> tuple[ir.Value, ir.Value]:
        """The codes of a layer's input, and their zero point; codes that were only moved are computed again."""
        assert reader.quantizer is not None
        zero, node = parameters(self.editor, reader.quantizer)[1], reader.value.producer()
        if node is not None and node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            return node.inputs[0], zero
        name = f"{reader.weight.name}/input"
        return quantized(self.editor, before, reader.value, reader.quantizer, name), zero

    def _plain_codes(self, before: ir.Node, weight: Weight) -> ir.Value:
        assert weight.codes is not None
        return self._codes(before, weight.name, weight.bits, weight.codes.numpy(), np.ones(1, np.int32))

    def _codes(self, before: ir.Node, name: str, bits: int, codes: Codes, factor: Codes) -> ir.Value:
        """Codes times factor, by channel, plus the zero point: of 8 bits, or of 4 and what makes 8 of them."""
        if bits <= 4 and codes.min(initial=0) >= -8 and codes.max(initial=0) < 8:
            return self._widened(before, name, codes, factor)
        return self.editor.constant(f"{name}/codes", codes * by_channel(factor, codes) + self.middle, self.kind)

    def _widened(self, before: ir.Node, name: str, codes: Codes, factor: Codes) -> ir.Value:
        add, constant = self.editor.add, self.editor.constant
        stored = constant(f"{name}/codes", codes, INT4)
        wide = add(before, "Cast", stored, name=f"{name}/codes/whole", to=ir.DataType.INT32)
        if bool((factor != 1).any()):
            times = constant(f"{name}/factor", by_channel(factor, codes).astype(np.int8))
            times = add(before, "Cast", times, name=f"{name}/factor/whole", to=ir.DataType.INT32)
            wide = add(before, "Mul", wide, times, name=f"{name}/codes/wide")
        if not self.middle:
            return add(before, "Cast", wide, name=f"{name}/codes/int8", to=ir.DataType.INT8)
        moved = add(before, "Add", wide, constant("middle", np.int32(MIDDLE)), name=f"{name}/codes/moved")
        return add(before, "Cast", moved, name=f"{name}/codes/uint8", to=ir.DataType.UINT8)

    def _bias(self, before: ir.Node, name: str, layer: Layer, quantizer: Quantizer | None) -> ir.Value:
        if quantizer is None:
            return self.editor.constant(f"{name}/bias", layer.bias, np.float32)
        codes, step = bias_codes(layer, input_scale=quantizer.scale)
        stored = self.editor.constant(f"{name}/bias/codes", codes)
        scale = self.editor.constant(f"{name}/bias/scale", step)
        return self.editor.add(before, "DequantizeLinear", stored, scale, name=f"{name}/bias", axis=0)
