import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qp_runner.compress.footprint import Coded as Counted
from qp_runner.export.coding import Coded, decode, encode


@st.composite
def weights(draw):
    """Codes of any width and density."""
    bits = draw(st.integers(2, 16))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = draw(arrays.arrays(np.int32, st.integers(1, 300), elements=st.integers(low, high)))
    kept = draw(st.floats(0, 1))
    return bits, np.where(np.random.default_rng(0).random(codes.size) < kept, codes, 0).astype(np.int32)


@given(weights())
@settings(max_examples=200, deadline=None)
def test_codes_come_back_and_take_what_the_footprint_counts(weight):
    bits, codes = weight
    coded = encode(codes, bits)
    assert np.array_equal(decode(coded, elements=codes.size, bits=bits, dtype=""), codes)
    counted = Counted(codes.size, int((codes == 0).sum()), bits).stored() / 8
    assert counted <= coded.data.size < counted + 2


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize(("kept", "form"), [(1.0, "dense"), (0.5, "bitmask"), (0.001, "index")])
def test_floats_come_back_in_the_smallest_form(dtype, kept, form):
    random = np.random.default_rng(1)
    values = np.where(random.random(4000) < kept, random.standard_normal(4000), 0).astype(dtype)
    coded = encode(values, None)
    assert coded.form == form
    assert np.array_equal(decode(coded, elements=4000, bits=None, dtype=dtype), values)


@pytest.mark.parametrize(("kept", "form"), [(1.0, "dense"), (0.5, "bitmask"), (0.01, "index")])
def test_the_form_follows_the_density(kept, form):
    codes = np.where(np.arange(1000) < kept * 1000, 3, 0)
    assert encode(codes, 8).form == form


def test_a_weight_that_is_all_zero_takes_no_values():
    coded = encode(np.zeros(100, np.int32), 4)
    assert (coded.form, coded.data.size) == ("index", 0)
    assert not decode(coded, elements=100, bits=4, dtype="").any()


@pytest.mark.parametrize(
    "bad",
    [
        Coded("dense", 3, np.zeros(1, np.uint8)),  # too few bytes
        Coded("bitmask", 2, np.array([1, 0, 0], np.uint8)),  # one bit set, two values
        Coded("index", 1, np.array([7, 0], np.uint8)),  # a place behind the end
        Coded("dense", 2, np.zeros(9, np.uint8)),  # too few values
    ],
)
def test_bytes_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError, match=r"values at|bytes are no"):
        decode(bad, elements=5, bits=8, dtype="")
