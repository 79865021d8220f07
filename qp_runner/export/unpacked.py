"""Reading a packed file with NumPy and safetensors alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qp_runner.export.bits import Bytes, size, unpack
from qp_runner.export.coding import Coded, Values, decode, sizes
from qp_runner.export.container import NetworkIndex, PackedError, ResultEntry, TensorEntry, WeightEntry, read

FLOATS = 32
NUMBER_TYPES = {
    "bfloat16": "<u2",  # which NumPy lacks
    "bool": "?",
    **{f"float{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"complex{bits}": f"<c{bits // 8}" for bits in (64, 128)},
    **{f"{sign}int{bits}": f"<{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""NumPy's types by torch's names."""


@dataclass(frozen=True)
class UnpackedWeight:
    """A weight, still encoded.

    Attributes:
        scales: float32 [n], in the order of output channels (of groups, then channels, if transposed); None: floats.
    """

    entry: WeightEntry
    data: Bytes
    scales: NDArray[np.float32] | None

    def codes(self) -> Values:
        """Codes (int32), or the values themselves, in the weight's shape. ValueError: the bytes do not fit."""
        entry = self.entry
        elements = math.prod(entry.shape)
        coded = Coded(entry.form, elements if entry.form == "dense" else entry.kept, self.data)
        bits = None if self.scales is None else entry.bits
        flat = decode(coded, elements=elements, bits=bits, dtype=number_type(entry.dtype))
        return flat.reshape(entry.shape)

    def value(self) -> Values:
        """The values, in the weight's shape: floats as they are stored, or codes · scales, in at least float32."""
        codes = self.codes()
        if self.scales is None:
            return codes
        wide = np.float64 if self.entry.dtype == "float64" else np.float32
        return np.multiply(codes.astype(wide), self._spread())

    def _spread(self) -> NDArray[np.float32]:
        """The scales, in a shape that broadcasts against the weight."""
        assert self.scales is not None
        shape, axis, groups = self.entry.shape, self.entry.axis, self.entry.groups
        sizes = [shape[axis] if dimension == axis else 1 for dimension in range(len(shape))]
        if groups == 1:
            return self.scales.reshape(sizes)
        return np.repeat(self.scales.reshape(groups, *sizes[1:]), shape[0] // groups, axis=0)


@dataclass(frozen=True)
class UnpackedResult:
    """What is done with a result, and the mask (bool) if there is one."""

    entry: ResultEntry
    mask: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Unpacked:
    """A network of a packed file. `tensors` are parameters and buffers by name; see `NetworkIndex` for the rest."""

    weights: dict[str, UnpackedWeight]
    tensors: dict[str, tuple[TensorEntry, Values]]
    aliases: dict[str, str]
    results: list[UnpackedResult]


def read_packed(path: Path) -> dict[str, Unpacked]:
    """The networks of a packed file, by name. PackedError for a damaged or another kind of file."""
    index, data = read(path)
    reader = _Reader(data)
    try:
        networks = {name: _network(each, reader) for name, each in index.items()}
        reader.finish()
    except (ValueError, IndexError) as error:
        raise PackedError(f"{path}: damaged: {error}") from error
    return networks


def number_type(dtype: str) -> str:
    """The NumPy type, little-endian, that stands for a type of torch. ValueError for one that is not known."""
    if dtype not in NUMBER_TYPES:
        raise ValueError(f"numbers of type {dtype}")
    return NUMBER_TYPES[dtype]


class _Reader:
    """Takes bytes in order."""

    def __init__(self, data: Bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> Bytes:
        """The next bytes. ValueError if there are not enough."""
        if not 0 <= count <= self._data.size - self._at:
            raise ValueError(f"its data end {count - self._data.size + self._at} bytes too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def finish(self) -> None:
        """ValueError if something is left."""
        if self._at != self._data.size:
            raise ValueError(f"{self._data.size - self._at} bytes of data too many")


def _network(index: NetworkIndex, reader: _Reader) -> Unpacked:
    """In the order in which it was written: all streams of weights, all scales, and so on."""
    streams = [reader.take(_stream_size(each)) for each in index.weights]
    scales = [_scales(each, reader) for each in index.weights]
    tensors = dict(_tensors(index.parameters, reader)) | dict(_tensors(index.buffers, reader))
    entries = zip(index.weights, streams, scales, strict=True)
    return Unpacked(
        {entry.name: UnpackedWeight(entry, stream, scale) for entry, stream, scale in entries},
        tensors,
        index.aliases,
        [UnpackedResult(each, _mask(each, reader)) for each in index.results],
    )


def _stream_size(entry: WeightEntry) -> int:
    elements = math.prod(entry.shape)
    bits = entry.bits if entry.bits != FLOATS else 8 * np.dtype(number_type(entry.dtype)).itemsize
    return sizes(elements=elements, kept=elements if entry.form == "dense" else entry.kept, bits=bits)[entry.form]


def _scales(entry: WeightEntry, reader: _Reader) -> NDArray[np.float32] | None:
    if entry.bits == FLOATS:
        return None
    count = entry.shape[entry.axis] * entry.groups
    if entry.exponents:
        return np.exp2(reader.take(count).view(np.int8).astype(np.float64)).astype(np.float32)
    return np.frombuffer(reader.take(4 * count).tobytes(), "<f4")


def _tensors(entries: list[TensorEntry], reader: _Reader) -> Iterator[tuple[str, tuple[TensorEntry, Values]]]:
    for entry in entries:
        kind = np.dtype(number_type(entry.dtype))
        data = reader.take(math.prod(entry.shape) * kind.itemsize)
        yield entry.name, (entry, np.frombuffer(data.tobytes(), kind).reshape(entry.shape))


def _mask(entry: ResultEntry, reader: _Reader) -> NDArray[np.bool_] | None:
    if entry.mask is None:
        return None
    elements = math.prod(entry.mask)
    return unpack(reader.take(size(elements, 1)), 1, elements).astype(np.bool_).reshape(entry.mask)
