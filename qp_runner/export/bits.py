"""Streams of bits: whole numbers of 1 to 32 bits without gaps, least significant bit first (little-endian).

Number i takes the bits from i·b on; bit k of the stream is bit k mod 8 of byte k div 8. The last byte is filled with
zeros.
"""

import numpy as np
from numpy.typing import NDArray

WIDEST = 32
Bytes = NDArray[np.uint8]
Whole = NDArray[np.uint32]


def pack(numbers: NDArray[np.integer], bits: int) -> Bytes:
    """The stream of whole numbers, [n]; negative ones in two's complement. Bits above `bits` are dropped.

    Returns:
        uint8, [⌈n · bits / 8⌉].
    """
    width = 4 if bits > 16 else 2  # bytes
    as_bytes = numbers.astype(f"<u{width}").view(np.uint8).reshape(numbers.size, width)
    digits = np.unpackbits(as_bytes, axis=1, bitorder="little")[:, :bits]
    return np.packbits(digits.reshape(-1), bitorder="little")


def unpack(stream: Bytes, bits: int, count: int) -> Whole:
    """The first `count` whole numbers of a stream, [count]. ValueError if it is too short."""
    if stream.size < size(count, bits):
        raise ValueError(f"{stream.size} bytes are no {count} numbers of {bits} bits")
    if not bits or not count:
        return np.zeros(count, np.uint32)
    digits = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    packed = np.packbits(digits, axis=1, bitorder="little")
    width = 1 << (packed.shape[1] - 1).bit_length()  # bytes: 1, 2 or 4
    filled = np.zeros((count, width), np.uint8)
    filled[:, : packed.shape[1]] = packed
    return filled.view(f"<u{width}").reshape(count).astype(np.uint32)


def signed(numbers: Whole, bits: int) -> NDArray[np.int32]:
    """Numbers of `bits` bits, read as two's complement."""
    sign = 1 << (bits - 1)
    return (numbers ^ np.uint32(sign)).astype(np.int32) - np.int32(sign)


def size(count: int, bits: int) -> int:
    """The bytes of a stream."""
    return -(-count * bits // 8)
