"""A file on disk bears the stored footprint out: weights are really encoded, written, read and decoded again."""

import numpy as np
import pytest
import torch

from qp_runner.compress import measure
from qp_runner.schedule import Op, Target

PRUNE, QUANTIZE = (Op.PRUNE, Target.WEIGHT), (Op.QUANTIZE, Target.WEIGHT)


def to_bits(numbers, width):
    """Unsigned numbers as rows of bits, flattened."""
    return (
        ((np.asarray(numbers, dtype=np.uint64)[:, None] >> np.arange(width, dtype=np.uint64)) & 1)
        .astype(np.uint8)
        .ravel()
    )


def from_bits(bits, width):
    return (bits.reshape(-1, width).astype(np.uint64) << np.arange(width, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def encodings(symbols, width):
    """A tensor of unsigned symbols (0 is zero), in each of the three forms."""
    kept = np.flatnonzero(symbols)
    index_width = int(np.ceil(np.log2(symbols.size)))
    return {
        "dense": to_bits(symbols, width),
        "bitmask": np.concatenate([(symbols != 0).astype(np.uint8), to_bits(symbols[kept], width)]),
        "index": np.concatenate([to_bits(kept, index_width), to_bits(symbols[kept], width)]),
    }


def decode(form, bits, size, width):
    if form == "dense":
        return from_bits(bits, width)
    symbols = np.zeros(size, dtype=np.uint64)
    if form == "bitmask":
        kept, values = np.flatnonzero(bits[:size]), bits[size:]
    else:
        index_width = int(np.ceil(np.log2(size)))
        count = bits.size // (index_width + width)
        kept, values = from_bits(bits[: count * index_width], index_width).astype(int), bits[count * index_width :]
    symbols[kept] = from_bits(values, width)
    return symbols


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
@pytest.mark.parametrize(
    ("sparsity", "bits", "form"), [(0.0, 8, "dense"), (0.5, 4, "bitmask"), (0.97, 5, "index"), (0.6, 32, "bitmask")]
)
def test_the_stored_footprint_is_the_size_of_a_file(
    tmp_path, build, attach, stage, passes, images, sparsity, bits, form, scale
):
    network = build()
    compressor = attach(network, scale=scale)
    compressor.trace(lambda: network(images(1)))
    compressor.enter(stage(sparsity, bits, fires={PRUNE, QUANTIZE}), run=passes(network))
    stream, layout, forms = [], [], set()
    for site in compressor.sites(Target.WEIGHT):
        module = network.get_submodule(site.path.removesuffix(".weight"))
        weight = module.weight.detach()
        symbols = as_symbols(weight, site.scale, bits)
        chosen = min(encodings(symbols, bits).items(), key=lambda item: item[1].size)
        scales = encoded_scales(site.scale, scale) if bits < 32 else np.zeros(0, dtype=np.uint8)
        stream += [chosen[1], scales]
        layout.append((weight, site.scale, chosen[0], chosen[1].size, scales.size))
        forms.add(chosen[0])
    paths = {site.path for site in compressor.sites(Target.WEIGHT)}
    others = [p for name, p in network.named_parameters() if name not in paths]
    stream += [to_bits(p.detach().flatten().numpy().view(np.uint32), 32) for p in others]
    file = tmp_path / "weights.bin"
    file.write_bytes(np.packbits(np.concatenate(stream)).tobytes())
    assert forms >= {form}
    assert file.stat().st_size == np.ceil(round(measure(compressor, kind="stored").weight * 1e6) / 8)
    read = np.unpackbits(np.frombuffer(file.read_bytes(), dtype=np.uint8))
    for weight, scales, kind, size, scales_size in layout:
        symbols = decode(kind, read[:size], weight.numel(), bits)
        assert torch.equal(from_symbols(symbols, weight.shape, scales, bits), weight)
        read = read[size + scales_size :]


def as_symbols(weight, scale, bits):
    """Codes in two's complement, or the pattern of the float."""
    if bits == 32:
        return (weight.flatten().numpy() + np.float32(0)).view(np.uint32).astype(np.uint64)  # + 0 turns -0 into 0
    return (weight / scale).round().flatten().numpy().astype(np.int64).astype(np.uint64) & np.uint64(2**bits - 1)


def from_symbols(symbols, shape, scale, bits):
    if bits == 32:
        return torch.from_numpy(symbols.astype(np.uint32).view(np.float32).copy()).view(shape)
    codes = symbols.astype(np.int64)
    codes -= (codes >= 2 ** (bits - 1)) * 2**bits
    return torch.from_numpy(codes).float().view(shape) * scale


def encoded_scales(scale, kind):
    """A power of two as its exponent in 8 bits, any other number as a 32-bit float."""
    numbers = scale.flatten().numpy()
    if kind == "float":
        return to_bits(numbers.view(np.uint32), 32)
    exponents = np.log2(numbers)
    assert (exponents == exponents.round()).all()
    assert (np.abs(exponents) < 128).all()
    return to_bits(exponents.astype(np.int8).view(np.uint8), 8)
