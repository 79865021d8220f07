"""One weight as bytes, in the smallest of three forms.

- `dense`: the values of all elements.
- `bitmask`: one bit for each element, set where it is not zero; then the values of those.
- `index`: the positions of the elements that are not zero, each of ⌈log₂ n⌉ bits; then their values.

A value is a code of 2 to 16 bits, or the float itself where the weight is not quantized. These are the forms that the
`stored` footprint counts, each stream rounded up to a whole byte.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qp_runner.export.bits import Bytes, pack, signed, size, unpack

Form = Literal["dense", "bitmask", "index"]
FORMS: tuple[Form, ...] = get_args(Form)
Values = NDArray[np.generic]


@dataclass(frozen=True)
class Coded:
    """An encoded weight.

    Attributes:
        kept: how many values are stored.
    """

    form: Form
    kept: int
    data: Bytes


def sizes(*, elements: int, kept: int, bits: int) -> dict[Form, int]:
    """Bytes by form, for values of `bits` bits."""
    return {
        "dense": size(elements, bits),
        "bitmask": size(elements, 1) + size(kept, bits),
        "index": size(kept, index_bits(elements)) + size(kept, bits),
    }


def index_bits(elements: int) -> int:
    """The width of a position."""
    return math.ceil(math.log2(elements)) if elements > 1 else 0


def encode(values: Values, bits: int | None) -> Coded:
    """Encodes values [n]: codes of this many bits, or floats (None)."""
    width = bits or 8 * values.itemsize
    places = np.flatnonzero(values)
    choices = sizes(elements=values.size, kept=places.size, bits=width)
    form = min(FORMS, key=choices.__getitem__)
    kept = values if form == "dense" else values[places]
    stream = np.frombuffer(kept.tobytes(), np.uint8) if bits is None else pack(kept.astype(np.int32), bits)
    head = np.zeros(0, np.uint8)
    if form == "bitmask":
        head = np.packbits(values != 0, bitorder="little")
    elif form == "index":
        head = pack(places, index_bits(values.size)) if places.size else head
    return Coded(form, int(kept.size), np.concatenate([head, stream]))


def decode(coded: Coded, *, elements: int, bits: int | None, dtype: str) -> Values:
    """The values [elements] again: codes as int32, or floats of a NumPy type (`bits` None).

    Raises:
        ValueError: the bytes do not fit the form.
    """
    head = {"dense": 0, "bitmask": size(elements, 1), "index": size(coded.kept, index_bits(elements))}[coded.form]
    values = _values(coded.data[head:], coded.kept, bits, dtype)
    if coded.form == "dense":
        places: NDArray[np.integer] = np.arange(elements)
    elif coded.form == "bitmask":
        places = np.flatnonzero(unpack(coded.data[:head], 1, elements))
    else:
        places = unpack(coded.data[:head], index_bits(elements), coded.kept)
    if places.size != coded.kept or (places.size and int(places.max()) >= elements):
        raise ValueError(f"{coded.kept} values at {places.size} places in {elements} elements")
    if coded.form == "dense":
        return values
    whole = np.zeros(elements, values.dtype)
    whole[places] = values
    return whole


def _values(stream: Bytes, count: int, bits: int | None, dtype: str) -> Values:
    if bits is not None:
        return signed(unpack(stream, bits, count), bits)
    width = np.dtype(dtype).itemsize
    if stream.size < count * width:
        raise ValueError(f"{stream.size} bytes are no {count} values of {width} bytes")
    return np.frombuffer(stream[: count * width].tobytes(), dtype)
