"""A packed file: bytes and an index of them, in the safetensors container.

The container has two uint8 arrays. `index` is JSON, compressed by zlib: for each network the entries below, without
what is the default. `data` holds, network after network, the streams of its weights, their scales, parameters that are
no sites, buffers, and masks, each in the order of the entries and starting at a whole byte. Reading takes NumPy and
safetensors; no class that a file names is looked up, no code is run.
"""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from qp_runner.export.bits import Bytes
from qp_runner.export.coding import FORMS, Form

FORMAT, VERSION = "qp_runner.packed", "1"
SECTIONS = ("codes", "scales", "floats", "buffers", "masks")
INDEX, DATA = "index", "data"
INDEX_LIMIT = 1 << 26  # bytes of JSON
VALUE_LIMIT = 50  # characters of a bad value that an error shows


class PackedError(ValueError):
    """A file that is no packed file, or a damaged one. The message is one line that names the file."""


@dataclass(frozen=True)
class WeightEntry:
    """A weight: its streams among the codes, its scales.

    Attributes:
        form: see `coding`, which also says how many bytes it takes.
        kept: values stored; 0 for all of a dense weight.
        bits: of its codes; 32 for floats, which have no scales.
        exponents: whether scales are powers of two, stored as int8 exponents; else they are float32.
        axis: the dimension of output channels.
        groups: of a transposed convolution, whose scales are ordered by group, then by channel.
        dtype: of the network's weight, as torch names it.
    """

    name: str
    shape: list[int]
    form: Form = "dense"
    kept: int = 0
    bits: int = 32
    exponents: bool = True
    axis: int = 0
    groups: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class TensorEntry:
    """A parameter that is no site, or a buffer, as it is."""

    name: str
    shape: list[int]
    dtype: str = "float32"


@dataclass(frozen=True)
class ResultEntry:
    """What is done with a result; its mask, if `mask` has a shape, has one bit an element.

    Attributes:
        name: the path of the module whose output it is, or the name of calls.
        scale: None: not quantized.
        axis: the dimension that is the batch.
        number, count: which of how many calls of the name; a count of 0 for a module's output.
    """

    name: str
    mask: list[int] | None = None
    bits: int = 32
    scale: float | None = None
    axis: int = 0
    number: int = 0
    count: int = 0


@dataclass(frozen=True)
class NetworkIndex:
    """What a file holds of one network, in order."""

    weights: list[WeightEntry] = field(default_factory=list)
    parameters: list[TensorEntry] = field(default_factory=list)
    buffers: list[TensorEntry] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    results: list[ResultEntry] = field(default_factory=list)


Sections = dict[str, list[Bytes]]


def write(path: Path, networks: Mapping[str, tuple[NetworkIndex, Sections]]) -> dict[str, int]:
    """Writes a packed file; returns its bytes by section, with `index` and the container's own as `header`."""
    text = json.dumps({name: _plain(index) for name, (index, _) in networks.items()}, separators=(",", ":"))
    parts = {section: [each for _, found in networks.values() for each in found[section]] for section in SECTIONS}
    data = [each for _, found in networks.values() for section in SECTIONS for each in found[section]]
    arrays = {
        DATA: np.concatenate([np.zeros(0, np.uint8), *data]),
        INDEX: np.frombuffer(zlib.compress(text.encode(), 9), np.uint8),
    }
    whole = save(arrays, {"format": FORMAT, "version": VERSION})
    path.write_bytes(whole)
    sizes = {section: sum(int(each.size) for each in found) for section, found in parts.items()}
    sizes[INDEX] = int(arrays[INDEX].size)
    return sizes | {"header": len(whole) - sum(sizes.values())}


def read(path: Path) -> tuple[dict[str, NetworkIndex], Bytes]:
    """The index, by network, and the data of a packed file.

    Raises:
        PackedError: another kind of file, another version, a damaged file.
        OSError: the file can't be read.
    """
    with path.open("rb"):  # its errors name the file
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
            if metadata.get("format") != FORMAT:
                raise PackedError(f"{path}: no packed file: its metadata lack format={FORMAT}")
            if metadata.get("version") != VERSION:
                raise PackedError(f"{path}: version {metadata.get('version')}, this program reads version {VERSION}")
            if names != {DATA, INDEX}:
                raise PackedError(f"{path}: damaged: it holds {sorted(names)}, not {DATA} and {INDEX}")
            index, data = file.get_tensor(INDEX), file.get_tensor(DATA)
        if any(each.dtype != np.uint8 or each.ndim != 1 for each in (index, data)):
            raise ValueError("data that are no bytes")
        return _index(index), data
    except PackedError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error) as error:
        raise PackedError(f"{path}: no packed file, or a damaged one: {error}") from error


Entry = TypeVar("Entry")


def _index(data: Bytes) -> dict[str, NetworkIndex]:
    stream = zlib.decompressobj()
    text = stream.decompress(data.tobytes(), INDEX_LIMIT)
    if not stream.eof:
        raise ValueError(f"an index that is cut off or longer than {INDEX_LIMIT} bytes")
    networks = json.loads(text)
    return {name: _network(each) for name, each in networks.items()}


def _network(plain: dict[str, Any]) -> NetworkIndex:
    kinds = [_entries(TensorEntry, plain.get(kind, [])) for kind in ("parameters", "buffers")]
    aliases = {str(name): str(first) for name, first in plain.get("aliases", {}).items()}
    weights, results = _entries(WeightEntry, plain.get("weights", [])), _entries(ResultEntry, plain.get("results", []))
    return NetworkIndex(weights, kinds[0], kinds[1], aliases, results)


def _entries(kind: type[Entry], plain: list[dict[str, Any]]) -> list[Entry]:
    for record in plain:
        for name, value in record.items():
            if name not in ALLOWED or not ALLOWED[name](value):
                raise ValueError(f"a bad entry: {name}={str(value)[:VALUE_LIMIT]}")
    return [kind(**record) for record in plain]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


ALLOWED: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "dtype"), _is_text),
    **dict.fromkeys(("kept", "axis", "number", "count"), _is_whole),
    "shape": _is_shape,
    "mask": lambda value: value is None or _is_shape(value),
    "form": lambda value: value in FORMS,
    "bits": lambda value: type(value) is int and (2 <= value <= 16 or value == 32),
    "groups": lambda value: _is_whole(value) and value > 0,
    "exponents": lambda value: isinstance(value, bool),
    "scale": lambda value: value is None or (isinstance(value, float) and 0 < value < math.inf),
}
"""What the fields of an entry may be."""


def _plain(index: NetworkIndex) -> dict[str, Any]:
    """The index without what is empty or the default."""

    def entry(each: Any) -> dict[str, Any]:
        defaults = {f.name: f.default for f in fields(each) if f.default is not MISSING}
        return {name: value for name, value in asdict(each).items() if name not in defaults or defaults[name] != value}

    lists = {name: getattr(index, name) for name in ("weights", "parameters", "buffers", "results")}
    plain: dict[str, Any] = {name: [entry(each) for each in entries] for name, entries in lists.items() if entries}
    return plain | ({"aliases": index.aliases} if index.aliases else {})
