"""Mask and fake-quantize a tensor, with the straight-through gradient.

Value: `x̂ = s · clamp(round(m·x / s), low, high)` with `low = −2^(b−1)`, `high = 2^(b−1) − 1`; ties round to even, as
`torch.round` does. Gradient: 1 where the element is kept and its rounded quotient lies in [low, high], 0 elsewhere.
That means: kept elements pass for `low − ½ ≤ x/s < high + ½` (low is even, so the lower tie rounds into the range;
high is odd, so the upper one rounds out of it).

Three forms give the same values:
- `quantize`: the plain formula, no gradient. The reference, and what calibration and baking use.
- `compress`: used in eager training. On a CPU such elementwise work is bound by memory, so it allocates one tensor in
  the forward and one in the backward pass and works on them in place. The backward pass needs only `x`, which the
  module that computed it has usually saved anyway. (PyTorch's fused `fake_quantize_*_cachemask` is one pass, but its
  CPU kernel is scalar: measured six times slower than these four vectorised passes.)
- `compress_static`: flags are tensors, for executors that capture or compile a step once; it reads no Python state.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad


def code_range(bits: int) -> tuple[int, int]:
    """The lowest and highest code of `bits` bits, two's complement."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def widened(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged if it is wider: 16-bit codes would be rounded twice, and a 0-dim float32 scale does
    not promote them.
    """
    return in_dtype(x, torch.promote_types(x.dtype, torch.float32))


def in_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in this dtype, without calling `to` if it has it already: `to` would return the same tensor, and an autograd
    function compiled by torch 2.11 then returns it twice, the unused copy with the gradient.
    """
    return x if x.dtype == dtype else x.to(dtype)


def quantize(x: Tensor, *, scale: Tensor, low: float, high: float) -> Tensor:
    """The quantized values of `x`, in at least float32. `scale` broadcasts against `x`."""
    return widened(x).div(scale).round_().clamp_(low, high).mul_(scale)


def gradient_interval(*, low: float, high: float) -> tuple[float, float]:
    """The open interval of quotients x/s (float32) whose gradient passes."""
    below = np.nextafter(
        np.float32(low - 0.5), np.float32(-np.inf)
    )  # an interval open at a float is closed at the next one
    return float(below), high + 0.5


def input_interval(*, scale: float, low: float, high: float) -> tuple[float, float]:
    """The open interval of float32 inputs x whose gradient passes, for one scale: exact, including the rounding of x/s.

    Rounded division by a positive number is monotone, so each end is found by stepping a few floats from its exact
    value.
    """
    s, bottom, top = np.float32(scale), np.float32(low - 0.5), np.float32(high + 0.5)
    down, up = np.float32(-np.inf), np.float32(np.inf)
    with np.errstate(over="ignore", under="ignore"):
        first = bottom * s
        while np.isfinite(first) and first / s >= bottom:
            first = np.nextafter(first, down)
        while first / s < bottom:  # ends at the smallest float inside the interval
            first = np.nextafter(first, up)
        last = top * s
        while np.isfinite(last) and last / s >= top:
            last = np.nextafter(last, down)
        while last / s < top:
            last = np.nextafter(last, up)
    return float(np.nextafter(first, down)), float(last)


class _Compress(torch.autograd.Function):
    """See `compress`. `interval` bounds x where `of_input`, else the quotient x/divisor."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mask: Tensor | None,
        divisor: Tensor,
        scale: Tensor,
        code_bounds: tuple[float, float],
        interval: tuple[float, float],
        of_input: bool,
    ) -> Tensor:
        quotient = widened(x) / divisor
        ctx.save_for_backward(x if of_input else quotient, mask)
        ctx.interval = interval
        code = quotient.round_() if of_input else quotient.round()
        return code.clamp_(*code_bounds).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Made of differentiable operations, for `create_graph=True`. What passes is constant almost everywhere.
        judged, mask = ctx.saved_tensors
        judged, (gradient,) = judged.detach(), gradients
        # hardtanh's backward is "zero where judged <= lower or judged >= upper" in one vectorised pass
        passed = torch.ops.aten.hardtanh_backward(gradient.to(judged.dtype), judged, *ctx.interval)
        if mask is not None:
            passed.mul_(mask)
        return passed.to(gradient.dtype), None, None, None, None, None, None


def masked_divisor(scale: Tensor, mask: Tensor) -> Tensor:
    """`scale` where the mask keeps, infinity where it prunes: one division then both masks and scales, exactly."""
    return torch.where(mask.bool(), scale, torch.full_like(scale, math.inf))


def compress(
    x: Tensor,
    *,
    mask: Tensor | None,
    divisor: Tensor,
    scale: Tensor,
    code_bounds: tuple[float, float],
    interval: tuple[float, float] | None = None,
) -> Tensor:
    """Masked and quantized `x`, same shape and dtype; codes are computed in float32 (float64 for a float64 `x`).

    Args:
        x: any floating dtype.
        mask: 1 keeps, 0 prunes, broadcasts; None keeps everything.
        divisor: `scale`, or `masked_divisor(scale, mask)`. A tensor, never a number: CUDA turns a division by a number
            into a multiplication by its rounded inverse, which changes ties.
        scale: positive, broadcasts.
        code_bounds: lowest and highest code.
        interval: `input_interval(...)` of a single scale: saves the memory of the quotient. Used for float32 inputs.
    """
    if _transforming():
        return _compress_by_operations(
            x, mask=mask, divisor=divisor, scale=scale, low=code_bounds[0], high=code_bounds[1]
        )
    of_input = interval is not None and x.dtype == torch.float32
    bounds = interval if of_input else gradient_interval(low=code_bounds[0], high=code_bounds[1])
    return cast(Tensor, _Compress.apply(x, mask, divisor, scale, code_bounds, bounds, of_input))


def _transforming() -> bool:
    """Whether a transform of `torch.func` or forward-mode differentiation is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _compress_by_operations(
    x: Tensor, *, mask: Tensor | None, divisor: Tensor, scale: Tensor, low: Any, high: Any
) -> Tensor:
    """`compress` by standard operations, which every transform knows; slower, and it takes more memory."""
    wide = widened(x)
    code = (wide.detach() / divisor).round()
    passed = (code >= low) & (code <= high)
    if mask is not None:
        passed = passed & (mask != 0)
    straight = torch.where(passed, wide, 0)  # its value cancels below, its gradient stays
    return in_dtype(code.clamp(low, high) * scale + (straight - straight.detach()), x.dtype)


def compress_static(x: Tensor, *, kept: Tensor, scale: Tensor, low: Tensor, high: Tensor, quantizing: Tensor) -> Tensor:
    """`compress` with every choice in a tensor: `kept` (bool, broadcasts), `low`, `high` (0-dim float), `quantizing`
    (0-dim bool). For compiled steps: the compiler fuses it with the computation of `x`.
    """
    if not torch.compiler.is_compiling() and _transforming():
        divisor = masked_divisor(scale, kept)
        coded = _compress_by_operations(x, mask=kept, divisor=divisor, scale=scale, low=low, high=high)
        return torch.where(quantizing, coded, torch.where(kept, x, 0))
    return cast(Tensor, _CompressStatic.apply(x, kept, scale, low, high, quantizing))


class _CompressStatic(torch.autograd.Function):
    """See `compress_static`. The backward pass recomputes what was clamped, which is cheaper than storing it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kept: Tensor, scale: Tensor, low: Tensor, high: Tensor, quantizing: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, kept, scale, low, high, quantizing)
        masked = torch.where(kept, widened(x), 0)
        code = (masked / scale).round().clamp(low, high)
        return in_dtype(torch.where(quantizing, code * scale, masked), x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, scale, low, high, quantizing = ctx.saved_tensors
        code = (widened(x) / scale).round()
        passed = kept & (~quantizing | ((code >= low) & (code <= high)))
        return torch.where(passed, gradients[0], 0), None, None, None, None, None
