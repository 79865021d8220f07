"""What a captured step takes for good from its job: numbers, layers, functions, which tensors are one."""

import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from qp_runner.compress.python_state import LARGE
from qp_runner.compress.site import Site
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches
from qp_runner.training.held_tensors import PLAIN, Again, reached
from qp_runner.training.optim import own_settings

Values = dict[str, object]
NO_MATTER = Site | RemovableHandle
SHOWN_BY_TEXT = complex | range | slice | torch.dtype | torch.device | torch.layout | torch.memory_format


def fixed_values(task: Task, optimizers: Mapping[str, Optimizer]) -> Values:
    """All that a job's step may read but the elements of tensors, by path, for comparison with another job's.

    Left out are attributes `seed` with the task's seed, which decides the order of the data, and the optimizers' rates,
    which captured steps read on the device; also sites, which such steps read from buffers only.
    """
    apart = {id(each) for each in caches(task)}
    found: Values = {}
    places: dict[int, str] = {}
    roots = {"task": task}
    for path, value in reached(roots, without=lambda each: id(each) in apart or isinstance(each, NO_MATTER)):
        if not (path.endswith(".seed") and type(value) is int and value == task.seed):
            found[path] = _fixed(path, value)
        if isinstance(value, Tensor):
            places[id(value)] = path
    return found | {f"optimizer.{path}": value for path, value in _of_optimizers(optimizers, places)}


def differing(one: Values, other: Values) -> str:
    """A path at which two jobs have different values; empty if they have the same."""
    return next(
        (path for path in (*one, *other) if path not in one or path not in other or one[path] != other[path]), ""
    )


def _of_optimizers(optimizers: Mapping[str, Optimizer], places: Mapping[int, str]) -> Iterator[tuple[str, object]]:
    for name, optimizer in optimizers.items():
        for number, group in enumerate(optimizer.param_groups):
            yield f"{name}.{number}.params", [places.get(id(each)) for each in group["params"]]
            for path, value in reached({f"{name}.{number}": own_settings(group, optimizer)}):
                yield path, _fixed(path, value)


def _fixed(path: str, value: Any) -> object:
    kind = type(value)
    if isinstance(value, type | types.ModuleType):
        return "name", getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__)
    if isinstance(value, PLAIN):
        return kind.__qualname__, value if value == value else "nan"
    what: object = None
    if isinstance(value, Tensor):
        what = value.requires_grad
    elif isinstance(value, Again):
        what = value.path
    elif isinstance(value, types.MethodType | types.FunctionType | types.BuiltinFunctionType):
        what = value.__qualname__, getattr(value, "__code__", None)
    elif isinstance(value, np.ndarray | np.generic):
        small = value.size <= LARGE and not value.dtype.hasobject
        what = value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest() if small else None
    elif isinstance(value, Mapping):
        counted = "_hooks" in path.rpartition(".")[2]  # keys that torch counts through the process
        what = [key if isinstance(key, PLAIN) else type(key) for key in ([] if counted else value)]
    elif isinstance(value, set | frozenset):
        what = {each if isinstance(each, PLAIN) else type(each) for each in value}
    elif isinstance(value, SHOWN_BY_TEXT):
        what = repr(value)
    return kind.__module__, kind.__qualname__, what
