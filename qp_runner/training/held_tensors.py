"""What a job's objects hold, and the tensors that a step reads."""

import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PLAIN = type | types.ModuleType | str | int | float | bytes | None
Place = tuple[str, int, str]
"""Where an optimizer keeps a tensor: its name, a parameter's number, and a name among that parameter's."""


@dataclass(frozen=True)
class Again:
    """Stands for an object that was met before.

    Attributes:
        path: where.
    """

    path: str


def reached(
    roots: Mapping[str, object], *, without: Callable[[object], bool] = lambda _: False
) -> Iterator[tuple[str, object]]:
    """All objects and plain values that can be reached from objects through attributes and containers, by path.

    Equal objects give equal paths in the same order. What sets hold is not looked at.

    Args:
        roots: by the names that paths start with.
        without: what is left out, with what only it leads to.
    """
    seen: dict[int, tuple[str, object]] = {}  # holds the objects, so that no id is used again
    left: list[tuple[str, object]] = list(roots.items())[::-1]
    while left:
        path, value = left.pop()
        if isinstance(value, PLAIN):
            yield path, value
        elif id(value) in seen:
            yield path, Again(seen[id(value)][0])
        elif not without(value):
            seen[id(value)] = path, value
            yield path, value
            if not isinstance(value, Tensor):
                left += [(f"{path}.{name}", each) for name, each in _inside(value)][::-1]


def held_tensors(roots: Mapping[str, object]) -> dict[str, Tensor]:
    """All tensors that can be reached from objects, by path, each once."""
    return {path: each for path, each in reached(roots) if isinstance(each, Tensor)}


def _inside(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, Mapping):
        for number, (key, each) in enumerate(value.items()):
            yield (key if isinstance(key, str) else number), each
    elif isinstance(value, list | tuple | deque):
        yield from enumerate(value)
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, types.FunctionType):
        yield "defaults", value.__defaults__
        yield "kwdefaults", value.__kwdefaults__
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if cell != types.CellType():  # an empty one has no contents
                yield name, cell.cell_contents
    else:
        yield from getattr(value, "__dict__", {}).items()
        yield from ((name, getattr(value, name)) for name in _slots(type(value)) if hasattr(value, name))


def _slots(kind: type) -> tuple[str, ...]:
    """The attributes that a class outside of Python's own libraries keeps in slots."""
    own = [each for each in kind.__mro__ if each.__module__.partition(".")[0] not in sys.stdlib_module_names]
    named = [each.__dict__.get("__slots__", ()) for each in own]
    names = [name for each in named for name in ((each,) if isinstance(each, str) else each)]
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def rates(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """The learning rates that lie on the device, by optimizer and parameter group."""
    groups = ((f"{name}.{n}", g) for name, each in optimizers.items() for n, g in enumerate(each.param_groups))
    return {f"rate.{place}": group["lr"] for place, group in groups if isinstance(group["lr"], Tensor)}


def optimizer_tensors(optimizers: Mapping[str, Optimizer]) -> dict[Place, Tensor]:
    """The tensors of the optimizers' states."""
    return {
        (name, number, key): value
        for name, optimizer in optimizers.items()
        for number, parameter in enumerate(parameters_of(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, in its own order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class Reads(TorchDispatchMode):
    """Notes the memory that operations read or write and that was there before the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: dict[int, Tensor] = {}  # one tensor of each storage
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            if _storage(tensor) not in self._made:
                self.outside.setdefault(_storage(tensor), tensor)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            if _storage(tensor) not in self.outside:
                self._made.add(_storage(tensor))
        return result

    def among(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of some tensors that lie in this memory."""
        return {path: each for path, each in tensors.items() if _storage(each) in self.outside}

    def beyond(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """A tensor for each part of this memory in which none of some tensors lies."""
        known = {_storage(each) for each in tensors}
        return [each for storage, each in self.outside.items() if storage not in known]


def _tensors(value: object) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
