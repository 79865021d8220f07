"""What training changes in networks and task outside what their `state_dict`s hold, for checkpoints."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from qp_runner.compress.plain import Reference, Written, is_plain, read, same, whole, write
from qp_runner.compress.python_state import Holder, holders, is_data
from qp_runner.tasks import Task
from qp_runner.training.checkpoint_file import CheckpointError
from qp_runner.training.digester import Digester, NotDigestibleError
from qp_runner.training.shared_state import changed_value, shared_values

KEPT = ["kept"]  # stands for what a state_dict holds
Read = dict[str, tuple[Holder, str, Written]]  # by path: who holds it, under which name, and what


def state_roots(task: Task) -> dict[str, object]:
    """Where the search for a run's state begins."""
    return {**task.networks(), "task": task}


def caches(task: Task) -> list[object]:
    """What a task says is no state."""
    return [vars(task)[name] for name in task.caches if name in vars(task)]


class AttributeState:
    """Attributes and buffers of networks, task and all plain objects that these hold, compared with how they were.

    Stored is what has changed since the start: numbers, texts, tensors, arrays, random generators and containers of
    them; also modes, which parameters are trained, buffers that are not persistent, and new sizes of those that are.

    Args:
        task: and all it holds.
        networks: whether its networks too.
    """

    def __init__(self, task: Task, *, networks: bool = True) -> None:
        self._task = task
        self._roots = state_roots(task) if networks else {"task": task}
        self._apart = [*caches(task), *(() if networks else task.networks().values())]
        self._start = self._read()
        self._shared = shared_values(holder.of for holder, _, _ in self._start.values())

    def capture(self) -> dict[str, Any]:
        """What has changed, as plain data. Raises CheckpointError for what can't be written or restored as such."""
        now = self._read()
        if name := changed_value(self._shared, shared_values(holder.of for holder, _, _ in now.values())):
            raise CheckpointError(f"{name} changes in training, where all runs have it, so the run shares nothing")
        own_state = type(self._task).state_dict is not Task.state_dict
        changed: dict[str, Written] = {}
        for path in self._changes(now):
            written = now[path][2] if path in now else None
            if is_plain(written):
                changed[path] = written
            elif not (own_state and path.startswith("task.")):  # such a task answers for what is hard to write
                raise CheckpointError(f"{path} changes in training and can't be stored, so the run shares nothing")
        gone = [path for path in changed if path not in now]
        return {"set": {path: each for path, each in changed.items() if path not in gone}, "gone": gone}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restores what `capture` gave. Raises CheckpointError for what belongs to objects that don't exist."""
        now = self._read()
        places = {holder.path: holder for holder, _, _ in now.values()}
        wanted = {path: each for path, (_, _, each) in self._start.items() if is_plain(each)} | saved["set"]
        for path in saved["gone"]:
            wanted.pop(path, None)
        for path, (holder, name, _) in now.items():
            if path not in wanted and (path not in self._start or path in saved["gone"]):
                holder.remove(name)
        for path, written in wanted.items():
            if path in now and same(now[path][2], written):
                continue
            holder, name = now[path][:2] if path in now else _place(path, places)
            _set(holder, name, written)

    def _changes(self, now: Read) -> list[str]:
        common = [path for path in now if path in self._start and not same(now[path][2], self._start[path][2])]
        return [*common, *(path for path in (*now, *self._start) if (path in now) != (path in self._start))]

    def _read(self) -> Read:
        networks = self._task.networks().values()
        kept = {id(each) for network in networks for each in network.parameters()}
        kept |= {id(each) for each in tree_leaves(dict(self._task.state_dict())) if isinstance(each, Tensor)}
        found: Read = {}
        for holder in holders(self._roots, apart=self._apart):
            for name, value in holder.values().items():
                found[f"{holder.path}.{name}"] = (holder, name, _written(holder, name, value, kept))
        return found


def _written(holder: Holder, name: str, value: object, kept: set[int]) -> Written:
    if name in ("_modules", "_parameters") and holder.is_network:
        return write(value, tensor=Reference)
    if is_data(holder, value):
        return Reference(value, getattr(value, "_version", None))

    def tensor(each: Tensor) -> Written:
        if id(each) in kept:
            return KEPT
        return Reference(each, each._version) if is_data(holder, each) else whole(each)

    if holder.is_network and name in holder.of._buffers:
        persistent = name not in holder.of._non_persistent_buffers_set
        if persistent and isinstance(value, Tensor):
            return ["buffer", True, [str(value.dtype), list(value.shape), value.device.type]]
        return ["buffer", persistent, write(value, tensor=tensor)]
    return write(value, tensor=tensor, other=_reference)


def _reference(value: object) -> Reference:
    """An object that can't be written; one that holds attributes is looked at by itself, a function has no state."""
    if isinstance(getattr(value, "__dict__", None), dict) or callable(value):
        return Reference(value)
    digester = Digester()
    try:
        digester.take("it", value)
    except NotDigestibleError:
        return Reference(value)
    return Reference(value, digester.hexdigest())


def _place(path: str, places: Mapping[str, Holder]) -> tuple[Holder, str]:
    """Who is to hold what was stored under a path."""
    names = path.split(".")
    for count in range(len(names) - 1, 0, -1):
        if (holder := places.get(".".join(names[:count]))) is not None:
            return holder, ".".join(names[count:])
    raise CheckpointError(f"it holds {path}, which this run does not have")


def _set(holder: Holder, name: str, written: Written) -> None:
    current = holder.values().get(name)
    if not (isinstance(written, list) and written[0] == "buffer"):
        restored = read(written, current)
        held = holder.values()
        if name not in held or held[name] is not restored:
            holder.set(name, restored)
        return
    _, persistent, content = written
    if persistent and content is not None:  # its elements are in the state_dict
        dtype, shape, device = content
        value: Any = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")), device=device)
    else:
        value = read(content, current)
    if name not in holder.of._buffers:
        holder.of.register_buffer(name, value, persistent=persistent)
    elif value is not current:
        holder.of._buffers[name] = value
