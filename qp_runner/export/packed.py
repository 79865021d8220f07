"""Writing a packed file: the bytes of what a network consists of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qp_runner.compress.bake import Output
from qp_runner.export.bits import Bytes
from qp_runner.export.coding import Coded, encode
from qp_runner.export.container import SECTIONS, NetworkIndex, ResultEntry, Sections, TensorEntry, WeightEntry, write
from qp_runner.export.contents import Contents, Weight
from qp_runner.schedule import FLOAT_BITS


def save_packed(path: Path, networks: Mapping[str, Contents]) -> dict[str, int]:
    """Writes networks, by name, as one packed file; returns its bytes by section."""
    return write(path, {name: _network(each) for name, each in networks.items()})


def _network(contents: Contents) -> tuple[NetworkIndex, Sections]:
    sections: Sections = {name: [] for name in SECTIONS}
    results = [_result(path, output, sections) for path, output in contents.outputs.items()]
    results += [
        _result(place.name, output, sections, number=place.number, count=place.count)
        for place, output in contents.calls.items()
    ]
    index = NetworkIndex(
        weights=[_weight(each, sections) for each in contents.weights],
        parameters=[_tensor(name, each, sections["floats"]) for name, each in contents.parameters.items()],
        buffers=[_tensor(name, each, sections["buffers"]) for name, each in contents.buffers.items()],
        aliases=contents.aliases,
        results=results,
    )
    return index, sections


def _weight(weight: Weight, sections: Sections) -> WeightEntry:
    """Codes and scales, or, where that would be more, the values as they are."""
    shape, dtype = list(weight.value.shape), _name(weight.value.dtype)
    if weight.codes is not None and weight.scale is not None:
        coded = encode(weight.codes.numpy().reshape(-1), weight.bits)
        scales, exponents = _scales(weight.scale)
        if coded.data.size + scales.size < weight.value.numel() * FLOAT_BITS // 8:
            sections["codes"].append(coded.data)
            sections["scales"].append(scales)
            found = (coded.form, _kept(coded), weight.bits, exponents)
            return WeightEntry(weight.name, shape, *found, weight.channel_axis, weight.groups, dtype)
    coded = encode(_numbers(weight.value), None)
    sections["codes"].append(coded.data)
    return WeightEntry(weight.name, shape, coded.form, _kept(coded), dtype=dtype)


def _kept(coded: Coded) -> int:
    return 0 if coded.form == "dense" else coded.kept


def _scales(scale: Tensor) -> tuple[Bytes, bool]:
    """Scales as bytes, and whether they are int8 exponents of two."""
    mantissa, exponent = torch.frexp(scale)  # scale = mantissa · 2^exponent with a mantissa in [0.5, 1)
    exponent = exponent - 1
    if bool(((mantissa == 0.5) & (exponent >= -128) & (exponent <= 127)).all()):
        return exponent.to(torch.int8).numpy().view(np.uint8), True
    return np.frombuffer(scale.numpy().astype("<f4").tobytes(), np.uint8), False


def _tensor(name: str, tensor: Tensor, section: list[Bytes]) -> TensorEntry:
    section.append(np.frombuffer(_numbers(tensor).tobytes(), np.uint8))
    return TensorEntry(name, list(tensor.shape), _name(tensor.dtype))


def _result(name: str, output: Output, sections: Sections, *, number: int = 0, count: int = 0) -> ResultEntry:
    if output.mask is not None:
        sections["masks"].append(np.packbits(output.mask.numpy().reshape(-1) != 0, bitorder="little"))
    mask = None if output.mask is None else list(output.mask.shape)
    scale = None if output.scale is None else float(output.scale)
    return ResultEntry(name, mask, output.bits if scale is not None else FLOAT_BITS, scale, output.axis, number, count)


def _numbers(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers [n]; those of types that NumPy lacks as unsigned whole numbers of the same bits."""
    flat = tensor.reshape(-1)
    return flat.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else flat.numpy()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
