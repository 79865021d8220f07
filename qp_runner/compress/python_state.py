"""What networks and other objects hold other than parameters: attributes, buffers, modes; remembered and put back."""

import enum
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from qp_runner.compress.plain import Reference, Written, read, same, whole, write
from qp_runner.compress.site import Site

OF_MODULES = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
"""Attributes that belong to `nn.Module` itself."""

LARGE = 1 << 18
"""Elements. What is larger, and is not held by a network, is taken for data, which training does not change."""

_COMPRESSION = __name__.rpartition(".")[0]  # what it attaches to a network has its own state


@dataclass(frozen=True)
class Holder:
    """An object with attributes, and how people find it.

    Attributes:
        path: such as `network.layers.0`.
    """

    path: str
    of: Any

    @property
    def is_network(self) -> bool:
        """Whether it is a module, with parameters and buffers."""
        return isinstance(self.of, nn.Module)

    def values(self) -> dict[str, Any]:
        """What it holds, by name. Of a module: attributes, buffers, mode, the parts, and which parameters train."""
        if not self.is_network:
            return dict(vars(self.of))
        own = {name: value for name, value in vars(self.of).items() if name not in OF_MODULES}
        trained = {name: each.requires_grad for name, each in self.of._parameters.items() if each is not None}
        parts = {name: dict(getattr(self.of, name)) for name in ("_modules", "_parameters")}
        return parts | own | self.of._buffers | {"training": self.of.training, "requires_grad": trained}

    def set(self, name: str, value: Any) -> None:
        """Sets what `values` gives under a name."""
        if not self.is_network:
            vars(self.of)[name] = value
        elif name == "requires_grad":
            for parameter, trained in value.items():
                self.of._parameters[parameter].requires_grad_(trained)
        elif name in ("_modules", "_parameters"):
            getattr(self.of, name).clear()
            getattr(self.of, name).update(value)
        else:
            place = self.of._buffers if name in self.of._buffers else vars(self.of)
            place[name] = value

    def remove(self, name: str) -> None:
        """Removes what `values` gives under a name."""
        vars(self.of).pop(name, None)
        if self.is_network:
            self.of._buffers.pop(name, None)
            self.of._non_persistent_buffers_set.discard(name)


def holders(roots: Mapping[str, object], *, apart: Collection[object] = ()) -> list[Holder]:
    """The networks and plain objects that can be reached from others through attributes and containers, each once.

    Left out are types, functions, frozen dataclasses, objects of Python's own libraries, and what compression attaches.

    Args:
        roots: by the names that paths start with.
        apart: objects that are left out too, with what only they lead to.
    """
    found: list[Holder] = []
    seen = {id(each): each for each in apart}
    left: list[tuple[str, object]] = list(roots.items())[::-1]
    while left:
        path, value = left.pop()
        if id(value) in seen:
            continue
        if _is_holder(value):
            found.append(Holder(path, value))
            inside: Iterator[tuple[object, object]] = iter(found[-1].values().items())
        else:
            inside = _entries(value)
        children = [(str(name), each) for name, each in inside if not isinstance(each, str | int | float | None)]
        if children or _is_holder(value):
            seen[id(value)] = value
        left += [(path if name == "_modules" else f"{path}.{name}", each) for name, each in reversed(children)]
    return found


def _is_holder(value: object) -> bool:
    kind = type(value)
    if isinstance(value, nn.Module):
        return not isinstance(value, Site)
    if kind.__module__.startswith(_COMPRESSION):
        return False
    if isinstance(value, type | Tensor | np.ndarray | enum.Enum) or kind.__module__ == "torch._ops":
        return False
    settings = getattr(kind, "__dataclass_params__", None)
    frozen = settings is not None and settings.frozen
    standard = kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return not frozen and not standard and isinstance(getattr(value, "__dict__", None), dict)


def _entries(value: object) -> Iterator[tuple[object, object]]:
    """A container's; a large one holds data."""
    if isinstance(value, dict | list | tuple | deque) and len(value) <= LARGE:
        yield from value.items() if isinstance(value, dict) else enumerate(value)


def is_data(holder: Holder, value: object) -> bool:
    """Whether a value is so large that it is taken for data."""
    if holder.is_network or isinstance(value, type):  # a library's lazy class may fail at any look
        return False
    size = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 0)
    if isinstance(value, dict | list | tuple | set | frozenset | deque):
        size = len(value)
    return isinstance(size, int) and size > LARGE


class Snapshot:
    """What some objects hold at one time, to be put back later.

    Parameters are not copied, buffers and all other tensors are.
    """

    def __init__(self, roots: Mapping[str, object], *, apart: Collection[object] = ()) -> None:
        self._roots, self._apart = dict(roots), tuple(apart)
        self._holders = holders(roots, apart=apart)
        self._parameters = {
            id(each) for holder in self._holders if holder.is_network for each in holder.of._parameters.values()
        }
        self._before = [
            {name: (value, self._write(holder, value)) for name, value in holder.values().items()}
            for holder in self._holders
        ]

    def put_back(self) -> None:
        """Gives every name the object it had, with the content it had."""
        for holder, before in zip(self._holders, self._before, strict=True):
            now = holder.values()
            for name in now.keys() - before.keys():
                holder.remove(name)
            for name, (value, written) in before.items():
                restored = read(written, value)
                if name not in now or restored is not now[name]:
                    holder.set(name, restored)

    def _write(self, holder: Holder, value: object) -> Written:
        def tensor(each: Tensor) -> Written:
            return Reference(each) if id(each) in self._parameters or is_data(holder, each) else whole(each)

        return Reference(value) if is_data(holder, value) else write(value, tensor=tensor)


def structure(roots: Mapping[str, object], *, apart: Collection[object] = ()) -> dict[str, Written]:
    """What objects hold, by path, for comparison. Of a tensor its elements don't count, only which tensor it is."""
    return {
        f"{holder.path}.{name}": write(value, tensor=Reference)
        for holder in holders(roots, apart=apart)
        for name, value in holder.values().items()
    }


def differences(one: Mapping[str, Written], other: Mapping[str, Written]) -> list[str]:
    """The paths at which two records of the same objects differ."""
    common = one.keys() & other.keys()
    return sorted([*(one.keys() ^ other.keys()), *(path for path in common if not same(one[path], other[path]))])
