"""The graph that computes as training did: `x̂ = s · clamp(round(m·x / s), low, high)` in float, step by step.

Weights are stored as codes, which the runtime dequantizes; the rest is in float. Where a layer reads quantized numbers
and scales are powers of two, its sums are exact in float32 (below 2^24 codes), in whatever order a runtime adds.
Other orders are left to layers that read floats: the first one, which reads images, and one behind an average.

Batch norms are written out: torch computes `alpha · x + beta` with one rounding (a fused multiply-add), runtimes with
two, which gives other bits for half of the values, and other codes for one in a hundred thousand.
"""

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from qp_runner.compress.bake import Output
from qp_runner.compress.fake_quantize import code_range
from qp_runner.export.contents import Contents, Weight, spread
from qp_runner.export.folding import Norm
from qp_runner.export.graph import INT4, Array, Editor
from qp_runner.export.marking import RESULT, WEIGHT, call_key, site_of
from qp_runner.export.patterns import is_factor, parameters_of

WORTH_BITS = 1024  # elements from which on a mask's bits and the operations that unpack them are less than its bytes


def results_of(contents: Contents) -> dict[str, Output]:
    """What is done with results, by the names of marks."""
    return contents.outputs | {call_key(place): output for place, output in contents.calls.items()}


def put_in_exact(editor: Editor, contents: Contents) -> None:
    """Puts the arithmetic of training in the place of all marks."""
    weights = {each.name: each for each in contents.weights}
    for mark in editor.marks(WEIGHT):
        editor.replace(mark, dequantized(editor, mark, weights[site_of(mark)]))
    results = results_of(contents)
    for mark in editor.marks(RESULT):
        name = site_of(mark)
        editor.replace(mark, compressed(editor, mark, results[name], name))
    write_norms(editor)


def write_norms(editor: Editor) -> None:
    """Puts what torch computes in the place of batch norms of float32."""
    for node in [each for each in editor.graph if each.op_type == "BatchNormalization"]:
        norm = parameters_of(node)
        if norm is not None and norm.gamma.dtype == np.float32:
            editor.replace(node, normalised(editor, node, norm))


def dequantized(editor: Editor, before: ir.Node, weight: Weight) -> ir.Value:
    """The weight's value: a float constant, or codes of 4, 8 or 16 bits and what makes values of them.

    Factors of a MatMul have no DequantizeLinear: ONNX Runtime would put a kernel in the place of both that rounds the
    other factor to 8 bits, too.
    """
    name = weight.name
    if weight.codes is None or weight.scale is None:
        return editor.constant(name, weight.value.numpy())
    codes = weight.codes.numpy()
    kind = INT4 if weight.bits <= 4 else np.int8 if weight.bits <= 8 else np.int16
    stored = editor.constant(f"{name}/codes", codes, kind)
    if weight.groups == 1 and not is_factor(before.outputs[0]):
        scale = editor.constant(f"{name}/scale", weight.scale.numpy())
        return editor.add(before, "DequantizeLinear", stored, scale, name=name, axis=weight.channel_axis)
    whole = spread(weight.scale, shape=weight.value.shape, channel_axis=weight.channel_axis, groups=weight.groups)
    scale = editor.constant(f"{name}/scale", whole.numpy())
    floats = editor.add(before, "Cast", stored, name=f"{name}/float", to=ir.DataType.FLOAT)
    return editor.add(before, "Mul", floats, scale, name=name)


def normalised(editor: Editor, node: ir.Node, norm: Norm) -> ir.Value:
    """A batch norm of float32 as torch computes it: in float64, where a product of two float32 is exact."""
    value, out = node.inputs[0], node.outputs[0]
    assert value is not None
    assert out.shape is not None
    shape, name = (-1, *[1] * (len(out.shape) - 2)), f"{out.name}/bias"  # `bias`: see `onnx_file.PARTS`
    alpha, beta = (each.astype(np.float64).reshape(shape) for each in linear(norm))
    wide = editor.add(node, "Cast", value, name=f"{name}/wide", to=ir.DataType.DOUBLE)
    times = editor.add(node, "Mul", wide, editor.constant(f"{name}/alpha", alpha), name=f"{name}/times")
    plus = editor.add(node, "Add", times, editor.constant(f"{name}/beta", beta), name=f"{name}/plus")
    return editor.add(node, "Cast", plus, name=f"{out.name}/normalised", to=ir.DataType.FLOAT)


def linear(norm: Norm) -> tuple[Array, Array]:
    """Torch's own `alpha` and `beta` of a batch norm, each [channels]: what it makes of 1 and of 0."""
    gamma, beta, mean, variance = (torch.tensor(each) for each in (norm.gamma, norm.beta, norm.mean, norm.variance))
    zeros = torch.zeros_like(mean)
    slope = F.batch_norm(torch.ones_like(mean)[None], zeros, variance, gamma, zeros, eps=norm.epsilon)
    offset = F.batch_norm(zeros[None], mean, variance, gamma, beta, eps=norm.epsilon)
    return slope[0].numpy(), offset[0].numpy()


def compressed(editor: Editor, mark: ir.Node, output: Output, name: str) -> ir.Value:
    """`Q(M ⊙ x)` of a mark's input, in float."""
    value = mark.inputs[0]
    assert value is not None
    if output.mask is not None:
        mask = mask_for(editor, mark, output, name)
        kept = editor.add(mark, "Cast", mask, name=f"{name}/mask/float", to=ir.DataType.FLOAT)
        value = editor.add(mark, "Mul", value, kept, name=f"{name}/masked")
    if output.scale is None:
        return value
    scale = editor.constant(f"{name}/scale", output.scale.numpy())
    low, high = (
        editor.constant(f"{name}/{end}", np.float32(code))
        for end, code in zip(("low", "high"), code_range(output.bits), strict=True)
    )
    divided = editor.add(mark, "Div", value, scale, name=f"{name}/divided")
    rounded = editor.add(mark, "Round", divided, name=f"{name}/rounded")
    codes = editor.add(mark, "Clip", rounded, low, high, name=f"{name}/codes")
    return editor.add(mark, "Mul", codes, scale, name=f"{name}/quantized")


def mask_for(editor: Editor, mark: ir.Node, output: Output, name: str) -> ir.Value:
    """A mark's mask (uint8) in a shape that broadcasts against its input: repeated over the positions of samples whose
    size is not fixed, as `compress.mask.tiled` does.
    """
    assert output.mask is not None
    mask = output.mask.numpy()
    value = mark.inputs[0]
    assert value is not None
    stored = _stored(editor, mark, mask, f"{name}/mask")
    if value.shape is None or all(size in (1, there) for size, there in zip(mask.shape, value.shape[1:], strict=True)):
        return stored
    here = np.array(mask.shape[1:], np.int64)
    axes = np.arange(1, mask.ndim, dtype=np.int64)
    sizes = editor.add(mark, "Shape", value, name=f"{name}/size", start=2)
    more = editor.add(mark, "Add", sizes, editor.constant(f"{name}/more", here - 1), name=f"{name}/size/more")
    times = editor.add(mark, "Div", more, editor.constant(f"{name}/mask/size", here), name=f"{name}/mask/times")
    one = editor.constant("one", np.ones(1, np.int64))
    repeats = editor.add(mark, "Concat", one, times, name=f"{name}/mask/repeats", axis=0)
    tiles = editor.add(mark, "Tile", stored, repeats, name=f"{name}/mask/tiles")
    starts = editor.constant(f"{name}/mask/start", np.zeros_like(here))
    return editor.add(
        mark, "Slice", tiles, starts, sizes, editor.constant(f"{name}/mask/axes", axes), name=f"{name}/mask/tiled"
    )


def _stored(editor: Editor, mark: ir.Node, mask: Array, name: str) -> ir.Value:
    """A mask as uint8. A large one lies in the file as bits; runtimes compute its bytes once, when they load it."""
    if mask.size < WORTH_BITS:
        return editor.constant(name, mask, np.uint8)
    bits = editor.constant(f"{name}/bits", np.packbits(mask.reshape(-1) != 0, bitorder="little")[:, None])
    places = editor.constant("bits/places", 1 << np.arange(8), np.uint8)
    digits = editor.add(mark, "BitwiseAnd", bits, places, name=f"{name}/digits")
    kept = editor.add(mark, "Cast", digits, name=f"{name}/kept", to=ir.DataType.BOOL)
    flat = editor.add(mark, "Reshape", kept, editor.constant("bits/flat", [-1], np.int64), name=f"{name}/flat")
    ends = [editor.constant(f"bits/{end}", [end], np.int64) for end in (0, mask.size)]
    whole = editor.add(mark, "Slice", flat, *ends, name=f"{name}/whole")  # without the last byte's spare bits
    shape = editor.constant(f"{name}/shape", mask.shape, np.int64)
    shaped = editor.add(mark, "Reshape", whole, shape, name=f"{name}/shaped")
    return editor.add(mark, "Cast", shaped, name=f"{name}/bytes", to=ir.DataType.UINT8)
