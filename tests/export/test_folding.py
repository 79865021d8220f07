import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.export.folding import BIAS_LIMIT, Norm, bias_codes, by_channel, fold, with_room_for_bias


def reference(codes, scale, bias, norm):
    """Weight and bias of a layer and the batch norm behind it, in float64."""
    gain = norm.gamma / np.sqrt(norm.variance + norm.epsilon)
    weight = codes * by_channel(scale * gain, codes)
    return weight, norm.beta + gain * (bias - norm.mean)


@st.composite
def layers(draw):
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    bits, channels = draw(st.integers(2, 8)), draw(st.integers(1, 6))
    low = -(2 ** (bits - 1)) + draw(st.integers(0, 1))
    codes = random.integers(low, 2 ** (bits - 1), (channels, 3, 2)).astype(np.int32)
    gamma = random.standard_normal(channels) * random.integers(0, 2, channels)  # some channels are switched off
    norm = Norm(
        gamma, random.standard_normal(channels), random.standard_normal(channels), random.random(channels), 1e-5
    )
    return codes, np.exp2(random.integers(-8, 0, channels).astype(np.float64)), random.standard_normal(channels), norm


@given(layers())
@settings(max_examples=200, deadline=None)
def test_a_folded_layer_is_the_layer_and_its_norm(layer):
    codes, scale, bias, norm = layer
    folded = fold(codes, scale, bias, norm)
    weight, expected = reference(codes, scale, bias, norm)
    if folded is None:
        assert ((codes == -128).any(axis=(1, 2)) & (norm.gamma < 0)).any()
        return
    assert folded.wide.min() >= -128
    assert folded.wide.max() <= 127
    assert (folded.scale > 0).all()
    np.testing.assert_allclose(folded.wide * by_channel(folded.scale, codes), weight, rtol=1e-6)
    np.testing.assert_allclose(folded.bias, expected)


def test_codes_of_few_bits_are_spread_over_eight():
    codes = np.array([[1, -2], [0, 1]], np.int32)
    folded = fold(codes, np.ones(2), None, None)
    assert folded.wide.tolist() == [[63, -126], [0, 127]]
    assert np.allclose(folded.scale, [1 / 63, 1 / 127])


def test_only_a_code_without_a_counterpart_keeps_a_norm_from_being_folded():
    norm = Norm(np.array([-1.0, 1.0]), np.zeros(2), np.zeros(2), np.ones(2), 0.0)
    assert fold(np.array([[-128], [1]]), np.ones(2), None, norm) is None
    assert fold(np.array([[1], [-128]]), np.ones(2), None, norm) is not None
    assert fold(np.array([[-8], [1]]), np.ones(2), None, norm).wide.tolist() == [[120], [127]]


@pytest.mark.parametrize("bias", [0.0, 3.0, -1e4])
def test_biases_fit_32_bits_and_are_close(bias):
    norm = Norm(np.array([1.0, 1.0, 0.0]), np.array([bias, 0.5, bias]), np.zeros(3), np.ones(3), 0.0)
    layer = fold(np.array([[100], [1], [5]]), np.array([2.0**-20, 2.0**-4, 1.0]), None, norm)
    roomy = with_room_for_bias(layer, input_scale=2.0**-8)
    codes, step = bias_codes(roomy, input_scale=2.0**-8)
    assert np.abs(codes.astype(np.int64)).max() <= BIAS_LIMIT + 64
    np.testing.assert_allclose(codes[:2] * step[:2], layer.bias[:2], rtol=1e-6, atol=float(step.max()) / 2)
    np.testing.assert_allclose(codes[2] * step[2], bias, rtol=1e-6)  # of a channel that is switched off
    before, after = (each.wide * by_channel(each.scale, each.codes) for each in (layer, roomy))
    np.testing.assert_allclose(after, before, atol=abs(bias) / BIAS_LIMIT * 2**8)
    assert roomy.codes[1] == 1
    assert not roomy.wide[2].any()
