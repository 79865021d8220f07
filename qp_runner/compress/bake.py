"""Baking: a plain copy of a compressed network, which computes the same without sites."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from qp_runner.compress.arguments import tensors_returned
from qp_runner.compress.attach import CALLS, Attachment, Counting, attach_calls, detach_weight, latent, uncount
from qp_runner.compress.calls import Calls, first_tensor, numbered, with_first
from qp_runner.compress.fake_quantize import code_range, widened
from qp_runner.compress.mask import broadcasts, tiled
from qp_runner.compress.results import CallResult
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite

MASK, SCALE, RANGE = "site_mask", "site_scale", "site_range"
"""What a baked module keeps of its output's site: two buffers, and a tuple of lowest code, highest code, batch axis."""

RESULTS = "site_results/"
"""How the names begin of buffers that a baked network keeps for results of calls."""


def bake(network: nn.Module, attachments: Iterable[Attachment], counted: Iterable[Counting] = ()) -> nn.Module:
    """A plain deep copy whose outputs equal the attached network's bit for bit; in evaluation, torch's own attention
    layers take a fast path where no weight has a site, which adds in another order: for the same bits, switch it off by
    `torch.backends.mha.set_fastpath_enabled(False)`.

    Its weights are the compressed values. A module with an active activation site keeps its class and its place; the
    site's mask and scale become buffers of it, and a forward hook of standard operations, `compress_output`, takes the
    place of the site's hook among the module's own ones. Weights that sites share stay shared.

    A network whose calls are sites goes on counting its calls; their masks and scales are buffers of it, as a network
    may call all children that it has (`nn.Sequential`).
    """
    paths = {id(module): path for path, module in network.named_modules()}
    inside = [attachment for attachment in attachments if id(attachment.module) in paths]
    plain = _copied(network)
    values: dict[Site, nn.Parameter] = {}
    for a in inside:
        module = plain.get_submodule(paths[id(a.module)])
        if a.handle is not None:
            _bake_output(module, a.handle.id, a.site)
        else:
            original = latent(a.module, a.name)
            if a.site not in values:
                values[a.site] = nn.Parameter(a.site.value(original), requires_grad=original.requires_grad)
            detach_weight(module, a.name)
            if is_parametrized(module):
                unparametrize(module)
            module._parameters[a.name] = values[a.site]
    for each in counted:
        if id(each.network) in paths:
            _bake_calls(plain.get_submodule(paths[id(each.network)]), each.calls)
    return plain


def _copied(network: nn.Module) -> nn.Module:
    """A deep copy; tensors that a forward pass left in attributes are copied without the history of their gradients,
    which torch does not copy.
    """
    left = [each for module in network.modules() for each in tensors_returned(list(vars(module).values()))]
    return copy.deepcopy(network, {id(each): each.detach().clone() for each in left if not each.is_leaf})


def compress_output(module: nn.Module, _args: object, output: Any) -> Any:
    """`Q(M ⊙ output)` of a baked module, as its forward hook."""
    return _compressed(output, getattr(module, MASK), getattr(module, SCALE), getattr(module, RANGE))


def _compressed(output: Any, mask: Tensor | None, scale: Tensor | None, limits: tuple[float, float, int]) -> Any:
    first = first_tensor(output)
    assert first is not None
    low, high, axis = limits
    with torch._C.DisableTorchFunction():  # this is no call of the network's
        x = first.movedim(axis, 0) if axis else first
        if mask is not None:
            shaped = mask if broadcasts(mask.shape, x.shape[1:]) else tiled(mask, x.shape[1:])
            x = x * shaped.to(x.dtype)
        if scale is not None:
            x = ((widened(x) / scale).round().clamp(low, high) * scale).to(x.dtype)
        return with_first(output, x.movedim(0, axis) if axis else x)


@dataclass(frozen=True)
class Output:
    """What is done with a call's result: the mask and the scale (None: none), the bits, the batch axis."""

    mask: Tensor | None
    scale: Tensor | None
    bits: int
    axis: int = 0

    @classmethod
    def of(cls, site: Site) -> "Output":
        """What a site does now."""
        axis = site.batch_axis if isinstance(site, ActivationSite) else 0
        mask = site.mask.clone() if site.is_pruning else None
        return cls(mask, site.scale.clone() if site.is_quantizing else None, int(site.bits), axis)

    @property
    def range(self) -> tuple[float, float, int]:
        """The lowest and the highest code, and the batch axis."""
        low, high = code_range(self.bits) if self.scale is not None else (0, 0)
        return float(low), float(high), self.axis


class BakedResult:
    """What a baked network does with the result of a call. Mask and scale become buffers of the network.

    Args:
        network: the baked one.
        name: of the call, numbered.
        output: what is done.
    """

    def __init__(self, network: nn.Module, name: str, output: Output) -> None:
        self.network, self.range = network, output.range
        self.mask, self.scale = (f"{RESULTS}{name.replace('.', '/')}/{kind}" for kind in ("mask", "scale"))
        network.register_buffer(self.mask, output.mask)
        network.register_buffer(self.scale, output.scale)

    def __call__(self, result: Any) -> Any:
        """The compressed result."""
        return _compressed(result, getattr(self.network, self.mask), getattr(self.network, self.scale), self.range)


def _bake_output(module: nn.Module, hook: int, site: Site) -> None:
    if not _active(site):
        del module._forward_hooks[hook]
        return
    _keep(module, Output.of(site))
    module._forward_hooks[hook] = compress_output


def _bake_calls(network: nn.Module, calls: Calls) -> None:
    """Gives a copied network's calls results of its own; stops counting where no site is active."""
    outputs = {
        name: [Output.of(hand.site) if isinstance(hand, CallResult) and _active(hand.site) else None for hand in hands]
        for name, hands in calls.sites.items()
    }
    if any(output is not None for of_name in outputs.values() for output in of_name):
        network.__dict__[CALLS].sites = _results(network, outputs)
    else:
        uncount(network)


def _active(site: Site) -> bool:
    return site.is_pruning or site.is_quantizing


def _results(network: nn.Module, outputs: Mapping[str, Sequence[Output | None]]) -> dict[str, list[BakedResult | None]]:
    return {
        name: [
            None if output is None else BakedResult(network, numbered(name, number), output)
            for number, output in enumerate(of_name)
        ]
        for name, of_name in outputs.items()
    }


def compress_outputs(
    network: nn.Module, outputs: Mapping[str, Output], calls: Mapping[str, Sequence[Output | None]]
) -> None:
    """Makes a plain network compress results as a baked one does.

    Args:
        network: changed in place.
        outputs: by the path of the module.
        calls: by the name of calls; one entry for each call of the name.
    """
    for path, output in outputs.items():
        module = network.get_submodule(path)
        _keep(module, output)
        module.register_forward_hook(compress_output)
    if calls:
        attach_calls(network, Calls(_results(network, calls), prefix=""))


def unparametrize(module: nn.Module) -> None:
    """Puts Parameters in place of what parametrizations compute. Torch's own function for it would change the class,
    which a copied module shares with the one that it was copied from.
    """
    values = {name: latent(module, name).detach() for name in cast(Any, module.parametrizations)}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def _keep(module: nn.Module, output: Output) -> None:
    """Keeps a site's mask, scale, range and batch axis in a module."""
    module.register_buffer(MASK, output.mask)
    module.register_buffer(SCALE, output.scale)
    setattr(module, RANGE, output.range)
