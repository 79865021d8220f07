"""Attaching sites to networks, and detaching them.

A weight site changes its module's class to a subclass, in which the Parameter's name is a property that computes the
site's value of it. The Parameter itself stays where it was, so a network keeps the names and the order of its
parameters and of its state_dict. The output of a module that is called once in a forward pass is a site by a forward
hook. Results of other calls are sites by the network's `calls.Calls`: the network's class becomes a subclass, too,
whose forward pass runs inside that mode.

A copy of an attached network (`copy.deepcopy`, and so `torch.optim.swa_utils.AveragedModel`) has its own Parameters and
shares the sites: it follows later events. A pickled network takes its sites with it, as they are. A copy made before
attaching is a float network and stays one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from qp_runner.compress.calls import Calls, Enter, Leave, follow
from qp_runner.compress.site import Site

WEIGHTS = "_weight_sites"  # where a module keeps the references to the sites of its weights, by name
CALLS = "_site_calls"  # where a network keeps the sites of its calls
_FLAT = "_flat_weights"  # where recurrent layers keep that list


class Reference:
    """A module's reference to a site. Copies of the module refer to the same site, unless that is copied along (as
    when a compressor is copied with its networks).
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def __deepcopy__(self, memo: dict[int, Any]) -> "Reference":
        return type(self)(memo.get(id(self.site), self.site))


class Compressed:
    """What comes before a module's own class once a site is attached to it."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        kind: Any = type(self)
        return _recreate, (kind.plain, kind.weights, kind.counted), super().__reduce_ex__(protocol)[2]


class Counted:
    """What comes before that for a network with sites at calls."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own forward pass, inside its `Calls`."""
        calls: Calls = self.__dict__[CALLS]
        calls.start()
        try:
            with calls:
                return super().forward(*args, **kwargs)  # type: ignore[misc]
        finally:
            calls.stop()


def _compressed(module: nn.Module, name: str) -> Tensor:
    """The tensor that a module computes with under a name."""
    try:
        site: Site = module.__dict__[WEIGHTS][name].site
        with torch._C.DisableTorchFunction():  # `Calls` counts only what the network computes
            return cast(Tensor, site(_own(module, name)))
    except AttributeError as error:  # nn.Module would take it for a missing property and return the Parameter
        raise RuntimeError(f"the weight's site can't compute: {error}") from error


def _flat_weights(module: Any) -> list[Tensor]:
    return [getattr(module, name) for name in module._flat_weights_names]


def _keep_flat_weights(module: nn.Module, _value: object) -> None:
    names: Any = module._flat_weights_names
    module.__dict__[_FLAT] = [module._parameters[name] for name in names]


_RECURRENT = {
    _FLAT: property(_flat_weights, _keep_flat_weights),
    "flatten_parameters": lambda _module: None,  # for cuDNN; it would join what sites return, not the Parameters
    "_update_flat_weights": lambda _module: None,
}
"""What else recurrent layers need, which compute with a list of their Parameters."""


@cache
def compressed_class(plain: type, weights: tuple[str, ...] = ("weight",), counted: bool = False) -> type:
    """The subclass of a module's class in which sites compute these Parameters, and calls are counted."""
    members: dict[str, Any] = {
        name: property(lambda module, name=name: _compressed(module, name))  # type: ignore[misc]
        for name in weights
    }
    if issubclass(plain, nn.RNNBase) and weights:
        members |= _RECURRENT
    members |= {"__module__": __name__, "plain": plain, "weights": weights, "counted": counted}
    return type(f"Compressed{plain.__name__}", (*([Counted] if counted else []), Compressed, plain), members)


def plain_class(kind: type) -> type:
    """A module's class without a site."""
    return cast(type, kind.__dict__["plain"]) if is_compressed(kind) else kind


def is_compressed(kind: type) -> bool:
    """Whether a class was made by `compressed_class`."""
    return Compressed in kind.__bases__


def _recreate(plain: type, weights: tuple[str, ...], counted: bool) -> nn.Module:
    kind: Any = compressed_class(plain, weights, counted)
    return cast(nn.Module, kind.__new__(kind))


def _become(module: nn.Module, *, weights: Sequence[str], counted: bool) -> None:
    plain = plain_class(type(module))
    module.__class__ = compressed_class(plain, tuple(weights), counted) if weights or counted else plain


def _weights(module: nn.Module) -> tuple[str, ...]:
    return cast(tuple[str, ...], getattr(type(module), "weights", ())) if is_compressed(type(module)) else ()


def _is_counted(module: nn.Module) -> bool:
    return is_compressed(type(module)) and Counted in type(module).__bases__


@dataclass(frozen=True)
class Attachment:
    """A site attached to a module.

    Attributes:
        name: of the weight.
        handle: an activation site's hook; None for a weight.
    """

    site: Site
    module: nn.Module
    name: str = "weight"
    handle: RemovableHandle | None = None

    def remove(self) -> None:
        """Detaches the site: the module computes with its Parameter, or returns its own output, again."""
        if self.handle is not None:
            self.handle.remove()
        else:
            detach_weight(self.module, self.name)


@dataclass(frozen=True)
class Counting:
    """Sites attached to calls of a network."""

    network: nn.Module
    calls: Calls
    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Detaches the sites."""
        for handle in self.handles:
            handle.remove()
        _uncount(self.network)


def latent(module: nn.Module, name: str = "weight") -> Tensor:
    """What a site masks and quantizes, attached or not: a Parameter, or what parametrizations make of Parameters."""
    if name in module._parameters:
        return _own(module, name)
    made = [each for each in cast(Any, module.parametrizations)[name].modules() if each.training]
    try:
        for each in made:
            each.training = False  # spectral norm, for one, takes every look in training for a step
        return _own(module, name)
    finally:
        for each in made:
            each.training = True


def _own(module: nn.Module, name: str) -> Tensor:
    """What the module would compute with if it had no site."""
    if name in module._parameters:
        return cast(Tensor, module._parameters[name])
    return cast(Tensor, getattr(plain_class(type(module)), name).__get__(module))


def attach_weight(module: nn.Module, name: str, site: Site) -> Attachment:
    """Makes a module compute with the site's value of a Parameter. RuntimeError if it does so already."""
    before = _weights(module)
    if name in before:
        raise RuntimeError(f"site {site.path}: this weight is compressed already; detach the other compressor first")
    module.__dict__.setdefault(WEIGHTS, {})[name] = Reference(site)
    _become(module, weights=(*before, name), counted=_is_counted(module))
    return Attachment(site, module, name)


def detach_weight(module: nn.Module, name: str) -> None:
    """Makes a module, or a copy of one, compute with its Parameter again."""
    _become(module, weights=[each for each in _weights(module) if each != name], counted=_is_counted(module))
    references = module.__dict__[WEIGHTS]
    del references[name]
    if not references:
        del module.__dict__[WEIGHTS]


def attach_calls(network: nn.Module, calls: Calls) -> Counting:
    """Makes the network's forward pass hand the results of its calls to `calls`. RuntimeError if one does already."""
    if _is_counted(network):
        raise RuntimeError("this network's calls are sites already; detach the other compressor first")
    handles = follow(network, calls)
    network.__dict__[CALLS] = calls
    _become(network, weights=_weights(network), counted=True)
    return Counting(network, calls, tuple(handles))


def uncount(network: nn.Module) -> None:
    """Makes a copy of a network whose calls are counted count them no more."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, Enter | Leave)]:
                del hooks[key]
    _uncount(network)


def _uncount(network: nn.Module) -> None:
    _become(network, weights=_weights(network), counted=False)
    del network.__dict__[CALLS]
