import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.export.bits import pack, signed, size, unpack


def reference(numbers: list[int], bits: int) -> bytes:
    """The stream as one large number."""
    whole = sum((number & (2**bits - 1)) << (position * bits) for position, number in enumerate(numbers))
    return whole.to_bytes(-(-len(numbers) * bits // 8), "little")


@st.composite
def streams(draw):
    bits = draw(st.integers(1, 32))
    return bits, draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))


@given(streams())
@settings(max_examples=200, deadline=None)
def test_a_stream_is_one_large_little_endian_number(stream):
    bits, numbers = stream
    packed = pack(np.array(numbers, np.int64), bits)
    assert packed.tobytes() == reference(numbers, bits)
    assert packed.size == size(len(numbers), bits)
    assert unpack(packed, bits, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("bits", range(2, 17))
def test_every_code_of_a_width_comes_back(bits):
    codes = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    assert signed(unpack(pack(codes, bits), bits, codes.size), bits).tolist() == codes.tolist()


def test_a_stream_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="1 bytes are no 3 numbers of 3 bits"):
        unpack(np.zeros(1, np.uint8), 3, 3)
