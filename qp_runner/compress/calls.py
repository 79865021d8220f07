"""Names for every call that a network makes in a forward pass, so that each result can be a site of its own.

A module's call has the module's path as its name, a function's call (`F.relu`, `x + y`, `torch.cat`) the path of the
module whose code makes it and the function's name: `layer1.0.relu`, `layer1.0.add`. The second and later calls of one
name are numbered: `layer1.0.relu_1`. These are the names that `torchvision.models.feature_extraction` gives, which
does not look into torchvision's own layers, though. Calls inside the layers of `torch.nn` have no names, except those
inside attention, which is several operations.

Nothing of the network's code changes. A mode of torch (`TorchFunctionMode`) sees the functions' calls, whatever the
control flow around them; `torch.compile` traces it, and none of it is left in the compiled step.
"""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

Result = Any  # a call's: a tensor, or a tuple that begins with one
Hand = Callable[[Any], Any]
Watch = Callable[[str, int, Any], Any]
"""Is shown a call's name, its number and its result; returns the result to use instead."""

_ATTENTION = F.multi_head_attention_forward
_SAME = {
    **{f"{prefix}{name}": name for name in ("add", "sub", "mul", "matmul", "pow") for prefix in "ir"},
    **{f"{prefix}{name}": "div" for name in ("div", "truediv") for prefix in ("", "i", "r")},
}
"""Functions of an operator (`x += y`, `1 - x`) by the name of the operation."""


def _looked_into() -> Callable[..., Any]:
    """Attention as torch defines it, whose own calls a mode sees: without the check that hands it to the mode whole."""
    plain: Any = _ATTENTION
    names = {**vars(F), "has_torch_function": lambda _tensors: False}
    copied: Any = types.FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__)
    copied.__kwdefaults__ = plain.__kwdefaults__
    return copied


_attention = _looked_into()


def numbered(name: str, number: int) -> str:
    """The name of a call: `relu`, `relu_1`, `relu_2`."""
    return f"{name}_{number}" if number else name


class Calls(TorchFunctionMode):
    """Counts the calls of a network's forward pass and hands results to sites.

    Args:
        sites: by a name without number, what is done with the result of its first, second, ... call; None leaves it as
            it is. Calls beyond the last (a loop that runs longer for other inputs) go to the last.
        prefix: before every name; the network's own where there are several, else empty.
        everything: whether calls without a site are counted and watched, too.

    Attributes:
        watch: if set, is shown the result of every call that has a site, or of every call.
    """

    def __init__(self, sites: Mapping[str, Sequence[Hand | None]], *, prefix: str, everything: bool = False) -> None:
        super().__init__()
        self.sites = dict(sites)
        self.prefix, self.everything = prefix, everything
        self.watch: Watch | None = None
        self.counts: dict[str, int] = {}
        self._scopes: list[str | None] = []  # of the modules that are running; None inside a layer of torch

    def start(self) -> None:
        """Begins a forward pass."""
        self.counts = {}
        self._scopes = [self.prefix]

    def stop(self) -> None:
        """Ends it. Outside of a pass, modules that are called do not count."""
        self._scopes = []

    def enter(self, scope: str | None) -> None:
        """A module begins to run."""
        if self._scopes:
            self._scopes.append(scope)

    def leave(self, name: str, result: Result) -> Result:
        """A module ends; returns the result to use."""
        if not self._scopes:
            return result
        self._scopes.pop()
        with torch._C.DisableTorchFunction():  # what sites compute does not count
            return self._made(name, result)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.unflatten:
            func = torch.unflatten  # the same, but the compiler can trace it inside a mode
        kwargs = kwargs or {}
        scope = self._scopes[-1] if self._scopes else None
        if scope is None:
            return func(*args, **kwargs)
        if func is _ATTENTION:
            with self:
                return _attention(*args, **kwargs)
        name = func.__name__.strip("_")
        return self._made(scope + _SAME.get(name, name), func(*args, **kwargs))

    def _made(self, name: str, result: Result) -> Result:
        hands = self.sites.get(name)
        if hands is None and not self.everything:
            return result
        number = self.counts.get(name, 0)
        self.counts[name] = number + 1
        hand = None
        if hands is not None:
            number = min(number, len(hands) - 1)
            hand = hands[number]
        if hand is not None:
            result = hand(result)
        if self.watch is not None and (hand is not None or self.everything):
            result = self.watch(name, number, result)
        return result

    def missed(self) -> list[str]:
        """Names of sites that the last forward pass did not reach."""
        return [
            numbered(name, number)
            for name, hands in self.sites.items()
            for number, hand in enumerate(hands)
            if hand is not None and number >= self.counts.get(name, 0)
        ]


class Enter:
    """A forward pre-hook that tells `Calls` which module runs."""

    def __init__(self, calls: Calls, scope: str | None) -> None:
        self.calls, self.scope = calls, scope

    def __call__(self, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        """Enters the module."""
        self.calls.enter(self.scope)


class Leave:
    """A forward hook that tells `Calls` that a module is done, and returns its site's value."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.calls, self.name = calls, name

    def __call__(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """Leaves the module."""
        return self.calls.leave(self.name, output)


def follow(network: nn.Module, calls: Calls) -> list[RemovableHandle]:
    """Hooks on all modules of a network, after those that are there: torch 2.11 compiles prepended hooks wrongly."""
    handles = []
    for path, module in network.named_modules():
        if path:
            where = calls.prefix + path
            scope = None if is_layer(module) else f"{where}."
            handles.append(module.register_forward_pre_hook(Enter(calls, scope)))
            handles.append(module.register_forward_hook(Leave(calls, where)))
    return handles


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one operation: a layer of `torch.nn` other than attention."""
    inside = isinstance(module, nn.MultiheadAttention) or any(True for _ in module.children())
    kind = vars(type(module)).get("plain", type(module))  # without what sites have added to it
    return bool(kind.__module__.startswith("torch.nn.")) and not inside


def first_tensor(result: Result) -> Tensor | None:
    """The tensor of a call's result that a site compresses: the result itself, or the first of a tuple."""
    first = result[0] if type(result) is tuple and result else result
    return first if isinstance(first, Tensor) else None


def with_first(result: Result, value: Tensor) -> Result:
    """The result with another first tensor."""
    return (value, *result[1:]) if type(result) is tuple else value


def prefixes(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Each network with what stands before the names of its sites: its own name where there are several."""
    for name, network in networks.items():
        yield (f"{name}." if len(networks) > 1 else ""), network
