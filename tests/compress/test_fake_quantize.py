import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.compress.fake_quantize import (
    code_range,
    compress,
    compress_static,
    input_interval,
    masked_divisor,
    quantize,
)

finite = st.floats(-1e4, 1e4, width=32)
values = st.lists(st.one_of(finite, st.integers(-600, 600).map(lambda k: k / 2)), min_size=1, max_size=40)
scales = st.one_of(st.integers(-8, 6).map(lambda d: 2.0**-d), st.floats(2.0**-10, 30, width=32))


def reference(x: float, scale: float, bits: int) -> tuple[float, float]:
    """Value and gradient of one kept element, in float32 arithmetic, one at a time."""
    quotient = np.float32(x) / np.float32(scale)
    code = round(float(quotient))  # Python rounds half to even, too
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    inside = low <= code <= high
    return float(np.float32(min(max(code, low), high)) * np.float32(scale)), float(inside)


def compressed(x, mask, scale, bits, *, form):
    """Value and gradient of each element by one of the training forms."""
    low, high = map(float, code_range(bits))
    x = x.clone().requires_grad_()
    if form == "static":
        numbers = {"low": torch.tensor(low), "high": torch.tensor(high)}
        kept = torch.tensor(True) if mask is None else mask.bool()
        y = compress_static(x, kept=kept, scale=scale, **numbers, quantizing=torch.tensor(True))
    else:
        interval = input_interval(scale=float(scale), low=low, high=high) if form == "by_input" else None
        divisor = scale if mask is None else masked_divisor(scale, mask)
        y = compress(x, mask=mask, divisor=divisor, scale=scale, code_bounds=(low, high), interval=interval)
    y.backward(torch.full_like(y, 3.0))
    return y.detach(), x.grad / 3


@pytest.mark.parametrize("form", ["by_input", "by_quotient", "static"])
@settings(max_examples=60)
@given(values=values, scale=scales, bits=st.integers(2, 12), data=st.data())
def test_every_form_equals_the_element_by_element_reference(form, values, scale, bits, data):
    keeps = data.draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    mask = None if keeps is None else torch.tensor(keeps).float()
    y, gradient = compressed(torch.tensor(values), mask, torch.tensor(scale), bits, form=form)
    for i, value in enumerate(values):
        kept = keeps is None or keeps[i]
        expected = reference(value, scale, bits) if kept else (0.0, 0.0)
        assert y[i].item() == expected[0]
        assert gradient[i].item() == pytest.approx(expected[1], rel=1e-6)


@settings(max_examples=60)
@given(values=values, scale=scales, bits=st.integers(2, 16))
def test_codes_stay_in_range(values, scale, bits):
    low, high = code_range(bits)
    codes = quantize(torch.tensor(values), scale=torch.tensor(scale), low=low, high=high) / torch.tensor(scale)
    assert codes.min() >= low * (1 + 1e-6)
    assert codes.max() <= high * (1 + 1e-6)


@settings(max_examples=200)
@given(scale=st.floats(2.0**-100, 2.0**100, width=32), bits=st.integers(2, 16))
def test_input_interval_is_exact_to_the_neighbouring_float(scale, bits):
    low, high = code_range(bits)
    lower, upper = input_interval(scale=scale, low=low, high=high)
    for edge in (lower, upper):
        for step in (-np.inf, 0.0, np.inf):
            x = np.float32(edge) if step == 0 else np.nextafter(np.float32(edge), np.float32(step))
            inside = low <= np.round(x / np.float32(scale)) <= high
            assert (lower < float(x) < upper) == inside


def test_ties_round_to_even_and_only_the_lower_end_includes_its_tie():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, -128.5])
    y, gradient = compressed(x, None, torch.tensor(1.0), 8, form="by_input")
    assert y.tolist() == [0, 2, 2, 0, -2, 127, -128]
    assert gradient.tolist() == [1, 1, 1, 1, 1, 0, 1]


def test_scales_per_channel_act_on_their_channel_only():
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scale = torch.tensor([0.25, 0.01, 3.0])[:, None, None]
    y = compress(x, mask=None, divisor=scale, scale=scale, code_bounds=(-8.0, 7.0))
    y.sum().backward()
    for channel in range(3):
        for value, got, gradient in zip(
            x[channel].flatten(), y[channel].flatten(), x.grad[channel].flatten(), strict=True
        ):
            assert (got.item(), gradient.item()) == reference(value.item(), scale[channel].item(), 4)


@pytest.mark.parametrize("form", ["by_input", "by_quotient", "static"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_other_dtypes_keep_their_dtype_and_code_in_float32_at_least(form, dtype, masked):
    x = torch.linspace(-3, 3, 101).to(dtype)
    mask = (torch.arange(101) % 3 > 0).float() if masked else torch.ones(101)
    y, gradient = compressed(x, mask if masked else None, torch.tensor(0.02), 8, form=form)
    wide = torch.promote_types(dtype, torch.float32)
    codes = (x.to(wide) / torch.tensor(0.02)).round()
    assert y.dtype == gradient.dtype == dtype
    assert torch.equal(y, (codes.clamp(-128, 127) * torch.tensor(0.02)).to(dtype) * mask.to(dtype))
    torch.testing.assert_close(gradient, ((codes >= -128) & (codes <= 127) & mask.bool()).to(dtype), rtol=1e-2, atol=0)


def test_infinite_inputs_are_clamped_by_every_form():
    x = torch.tensor([math.inf, -math.inf])
    for form in ("by_input", "by_quotient", "static"):
        y, gradient = compressed(x, None, torch.tensor(0.5), 4, form=form)
        assert y.tolist() == [3.5, -4.0]
        assert gradient.tolist() == [0, 0]


def test_static_form_with_everything_off_is_the_identity():
    x = torch.randn(5, requires_grad=True)
    off, one = torch.tensor(False), torch.tensor(1.0)
    y = compress_static(x, kept=~off, scale=one, low=one, high=one, quantizing=off)
    y.sum().backward()
    assert torch.equal(y, x)
    assert torch.equal(x.grad, torch.ones(5))


def test_the_input_is_left_as_it_was():
    x = torch.randn(100)
    before = x.clone()
    compressed(x, torch.zeros(100), torch.tensor(0.1), 4, form="by_input")
    assert torch.equal(x, before)
