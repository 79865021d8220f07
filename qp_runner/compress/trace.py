"""A traced forward pass of one sample: the shape of every activation site, and when it is in memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qp_runner.compress.errors import not_a_tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class SiteTensor:
    """One output of a site; a module called twice in a forward pass makes two.

    Where a network works on a batch of parts of a sample, such as a detector's head on regions, one part counts: the
    number of parts varies, and only one has to be in memory at a time.

    It is in memory from operation `first` to operation `last`, the last that reads it. `first` is where the chain of
    operations that computes it starts from other sites' tensors: a convolution, its norm and its activation function
    count as one, as a deployed network executes them.
    """

    site: str
    shape: tuple[int, ...]  # of one sample, or of one part of it
    first: int
    last: int

    @property
    def elements(self) -> int:
        """Elements of one sample."""
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Trace:
    """The site tensors of a forward pass in order of computation, and the layer outputs of the published count."""

    tensors: tuple[SiteTensor, ...]
    layer_outputs: int  # elements, of convolutions, norms and linear layers

    def peak(self, sizes: Sequence[float]) -> float:
        """The largest sum of sizes (one for each of `tensors`) in memory at any operation."""
        alive = [
            sum(size for other, size in zip(self.tensors, sizes, strict=True) if other.first <= t.first <= other.last)
            for t in self.tensors  # the sum rises only where a tensor is created
        ]
        return max(alive, default=0.0)


@dataclass
class _Value:
    """The contents of a storage between two writes."""

    first: int
    last: int
    site: str | None = None
    shape: tuple[int, ...] = ()


class _Recorder(TorchDispatchMode):
    """Follows storages through all operations: a view shares its base's value; a write in place makes a new value."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self.values: list[_Value] = []
        self._current: dict[int, _Value] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.time += 1
        inputs = _tensors((args, kwargs))
        read = [self._current[key] for key in map(self._key, inputs) if key in self._current]
        for value in read:
            value.last = self.time
        first = min([self.time, *(value.first for value in read if value.site is None)])
        known = {self._key(tensor) for tensor in inputs}
        written = {self._key(tensor) for tensor in _written(func, args, kwargs or {})}
        for key in {self._key(tensor) for tensor in _tensors(result)} | written:
            if key in written or key not in known:
                self._current[key] = _Value(first, self.time)
        return result

    def _key(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self._storages.setdefault(storage._cdata, storage)
        return storage._cdata

    def mark(self, site: str, tensor: Tensor) -> None:
        """Marks a tensor, just computed, as a site's output. A tensor belongs to the first site that marks it."""
        value = self._current.setdefault(self._key(tensor), _Value(self.time, self.time))
        if value.site is None:
            value.site, value.shape = site, tuple(tensor.shape[1:])
            self.values.append(value)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation's schema says it changes in place."""
    changed: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed += _tensors(args[i] if i < len(args) else kwargs.get(argument.name))
    return changed


def trace(
    networks: Iterable[nn.Module],
    modules: dict[str, nn.Module],
    *,
    run: Callable[[], None],
    seen: Callable[[str, Tensor], None],
) -> Trace:
    """Traces a forward pass of one sample.

    Args:
        networks: all networks that `run` may call.
        modules: the sites' modules, by path. Sites must be switched off, modules in eval mode.
        run: the forward pass.
        seen: called with each site's path and output.
    """
    recorder = _Recorder()
    layers = [m for n in networks for m in n.modules() if isinstance(m, (*_CONVOLUTIONS, *_NORMS, nn.Linear))]
    outputs: list[int] = []
    found: list[tuple[str, Tensor]] = []

    def note(path: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise not_a_tensor(path, modules[path], output)
        recorder.mark(path, output)
        found.append((path, output))

    hooks = [m.register_forward_hook(lambda _m, _a, out: outputs.append(out.shape[1:].numel())) for m in layers]
    hooks += [m.register_forward_hook(lambda _m, _a, out, path=path: note(path, out)) for path, m in modules.items()]
    try:
        with recorder:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    for path, output in found:  # after the pass, so that it does not trace `seen`
        seen(path, output)
    tensors = (SiteTensor(v.site or "", v.shape, v.first, v.last) for v in recorder.values)
    return Trace(tuple(tensors), sum(outputs))
