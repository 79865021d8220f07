"""Python values written as plain data that a checkpoint can hold, compared, and read back into the same objects."""

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CONTAINERS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (list, tuple, dict, OrderedDict, Counter, set, frozenset, deque, torch.Size)
}
MAPPINGS = (dict, OrderedDict, Counter)
DEEPEST = 50
Written = Any
"""None, bool, int, float or str; or a list that starts with the kind of what it stands for; or a `Reference`."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Stands for an object that can't be written as plain data.

    Attributes:
        token: tells whether the object itself has changed, as far as this can be told.
    """

    of: object
    token: object = None


def whole(value: Tensor) -> Written:
    """A tensor written with a copy of its elements."""
    return ["tensor", value.device.type, value.detach().clone()]


def write(
    value: Any,
    *,
    tensor: Callable[[Tensor], Written] = whole,
    other: Callable[[object], Written] = Reference,
    deepest: int = DEEPEST,
) -> Written:
    """A value as plain data.

    Args:
        value: anything.
        tensor: how a tensor is written.
        other: how an object is written that is no number, text, array, random generator or container of them.
        deepest: the number of containers that may lie in each other; what lies deeper is an `other`.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return tensor(value)
    if kind.__name__ in CONTAINERS and kind is CONTAINERS[kind.__name__] and deepest:
        return [
            kind.__name__,
            _written_entries(value, lambda each: write(each, tensor=tensor, other=other, deepest=deepest - 1)),
        ]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return [
            "array" if isinstance(value, np.ndarray) else "number",
            value.dtype.str,
            list(value.shape),
            _bytes(value.tobytes()),
        ]
    if kind is complex:
        return ["complex", value.real, value.imag]
    if kind is bytes:
        return ["bytes", _bytes(value)]
    if kind in (torch.dtype, torch.device):
        return [kind.__name__, str(value).removeprefix("torch.")]
    state = _generator_state(value)
    return other(value) if state is None else [kind.__name__, write(state)]


def read(written: Written, current: Any = None) -> Any:
    """The value that was written, in the object that has its place now, wherever that can take it."""
    if isinstance(written, Reference):
        return written.of
    if not isinstance(written, list):
        return written
    kind, *parts = written
    readers: dict[str, Callable[[], Any]] = {
        "kept": lambda: current,
        "tensor": lambda: _tensor(parts[1], parts[0], current),
        "array": lambda: _array(parts, current),
        "number": lambda: _array(parts, None)[()],
        "complex": lambda: complex(*parts),
        "bytes": lambda: parts[0].numpy().tobytes(),
        "dtype": lambda: getattr(torch, parts[0]),
        "device": lambda: torch.device(parts[0]),
    }
    if kind in CONTAINERS:
        return _container(kind, parts[0], current)
    return readers[kind]() if kind in readers else _generator(kind, read(parts[0]), current)


def same(one: Written, other: Written) -> bool:
    """Whether two values are the same, objects that can't be written by identity and token."""
    if isinstance(one, Reference) and isinstance(other, Reference):
        return one.of is other.of and one.token == other.token
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other.to(one.device))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def is_plain(written: Written) -> bool:
    """Whether a checkpoint can hold it."""
    return not isinstance(written, Reference) and (not isinstance(written, list) or all(map(is_plain, written)))


def _written_entries(value: Any, written: Callable[[Any], Written]) -> list[Written]:
    if isinstance(value, dict):
        return [[written(key), written(each)] for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(map(written, value), key=repr)  # a set's order is not part of its value
    if isinstance(value, deque):
        return [value.maxlen, *map(written, value)]
    return [written(each) for each in value]


def _container(kind: str, entries: list[Written], current: Any) -> Any:
    make = CONTAINERS[kind]
    fits = type(current) is make
    if make in MAPPINGS:
        known = dict(current) if fits else {}
        pairs = [(read(key), read(each, known.get(read(key)))) for key, each in entries]
        return _refill(current, pairs, dict.update) if fits else make(dict(pairs))
    limit = entries[0] if make is deque else None
    entries = entries[1:] if make is deque else entries
    old = (
        list(current)
        if fits and make not in (set, frozenset) and len(current) == len(entries)
        else [None] * len(entries)
    )
    values = [read(each, before) for each, before in zip(entries, old, strict=True)]
    if fits and make is list:
        return _refill(current, values, list.extend)
    if fits and make is set:
        return _refill(current, values, set.update)
    if make is deque:
        fits = fits and current.maxlen == limit
        return _refill(current, values, deque.extend) if fits else deque(values, limit)
    if fits and all(new is before for new, before in zip(values, old, strict=True)):
        return current  # a tuple of the same objects
    return make(values)


def _refill(current: Any, values: Any, fill: Callable[[Any, Any], None]) -> Any:
    current.clear()
    fill(current, values)
    return current


def _tensor(value: Tensor, device: str, current: Any) -> Tensor:
    if isinstance(current, Tensor) and current.shape == value.shape and current.dtype == value.dtype:
        try:
            with torch.no_grad():
                return current.copy_(value)
        except RuntimeError:  # its elements overlap, or it was made in inference mode
            pass
    return value.clone().to(device)


def _array(parts: list[Any], current: Any) -> Any:
    dtype, shape, data = parts
    value = np.frombuffer(data.numpy().tobytes(), dtype=np.dtype(dtype)).reshape(shape)
    fits = isinstance(current, np.ndarray) and (current.shape, current.dtype) == (value.shape, value.dtype)
    if not fits or not current.flags.writeable:
        return value.copy()
    current[...] = value
    return current


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _generator_state(value: Any) -> Any:
    """A random generator's state; None for any other object."""
    if type(value) is torch.Generator:
        return [value.device.type, value.get_state()]
    if type(value) is random.Random:
        return value.getstate()
    if type(value) is np.random.Generator:
        return value.bit_generator.state
    return value.get_state(legacy=False) if type(value) is np.random.RandomState else None


def _generator(kind: str, state: Any, current: Any) -> Any:
    made: Any
    fits = type(current).__name__ == kind
    if kind == "Random":
        made = current if fits else random.Random()
        made.setstate(state)
    elif kind == "RandomState":
        made = current if fits else np.random.RandomState()
        made.set_state(state)
    elif isinstance(state, dict):
        made = current if fits else np.random.Generator(getattr(np.random, state["bit_generator"])())
        made.bit_generator.state = state
    else:
        made = current if fits else torch.Generator(state[0])
        made.set_state(state[1])
    return made
