"""Attaching sites to modules, detaching them, and baking a plain copy."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from qp_runner.compress.fake_quantize import widened
from qp_runner.compress.mask import broadcasts, tiled
from qp_runner.compress.selection import SiteLocation
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite, WeightSite


class Link(nn.Module):
    """A weight's parametrization. It does not own its site, so a network's state_dict holds no masks."""

    def __init__(self, site: WeightSite) -> None:
        super().__init__()
        object.__setattr__(self, "site", site)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the module computes with."""
        return cast(Tensor, self.__dict__["site"](weight))


@dataclass(frozen=True)
class Attachment:
    """A site attached to a module; `handle` is an activation site's hook."""

    site: Site
    module: nn.Module
    handle: RemovableHandle | None = None
    order: tuple[str, ...] = ()  # of the module's parameters, which attaching a weight changes

    def remove(self) -> None:
        """Detaches the site; a weight's latent Parameter, still the same object, is the module's weight again."""
        if self.handle is not None:
            self.handle.remove()
        else:
            parametrize.remove_parametrizations(self.module, "weight", leave_parametrized=False)
            _reorder(self.module, self.order)


def latent(module: nn.Module) -> nn.Parameter:
    """The Parameter behind a module's weight, attached or not."""
    if parametrize.is_parametrized(module, "weight"):
        return cast(nn.Parameter, cast(nn.ModuleDict, module.parametrizations)["weight"].original)
    return cast(nn.Parameter, module.weight)


def attach_weight(location: SiteLocation, site: WeightSite) -> Attachment:
    """Makes the module compute with the site's value of its weight. The Parameter stays the same object."""
    order = tuple(location.module._parameters)
    parametrize.register_parametrization(location.module, "weight", Link(site), unsafe=True)
    return Attachment(site, location.module, order=order)


def attach_activation(location: SiteLocation, site: ActivationSite) -> Attachment:
    """Makes the module return the site's value of its output."""
    return Attachment(site, location.module, location.module.register_forward_hook(site.hook))


class CompressedActivation(nn.Module):
    """What an activation site computes, as a plain module of standard operations, for export."""

    mask: Tensor | None
    scale: Tensor | None

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.low, self.high = float(site.low), float(site.high)
        self.register_buffer("mask", site.mask.clone() if site.is_pruning else None)
        self.register_buffer("scale", site.scale.clone() if site.is_quantizing else None)

    def forward(self, x: Tensor) -> Tensor:
        """`Q(M ⊙ x)`."""
        kept = x if self.mask is None else x * self._mask_for(x).to(x.dtype)
        if self.scale is None:
            return kept
        return ((widened(kept) / self.scale).round().clamp(self.low, self.high) * self.scale).to(x.dtype)

    def _mask_for(self, x: Tensor) -> Tensor:
        assert self.mask is not None
        sample = x.shape[1:]
        return self.mask if broadcasts(self.mask.shape, sample) else tiled(self.mask, sample)


def bake(network: nn.Module, attachments: Iterable[Attachment]) -> nn.Module:
    """A plain deep copy whose outputs equal the attached network's bit for bit.

    Its weights are the compressed values. A module with an active activation site becomes
    `nn.Sequential(module, CompressedActivation)`. The copy has no parametrizations and no hooks of sites.
    """
    paths = {id(module): path for path, module in network.named_modules()}
    inside = [a for a in attachments if id(a.module) in paths]
    memo: dict[int, object] = {
        id(a.site): a.site for a in inside
    }  # the copy drops its sites, so they need not be copied
    plain = copy.deepcopy(network, memo)
    swaps: dict[int, nn.Module] = {}
    for a in inside:
        module = plain.get_submodule(paths[id(a.module)])
        if a.handle is None:
            _unparametrize(module, a.site.value(latent(a.module)))
            _reorder(module, a.order)
        else:
            module._forward_hooks.pop(a.handle.id)
            if a.site.is_pruning or a.site.is_quantizing:
                swaps[id(module)] = nn.Sequential(module, CompressedActivation(a.site)).train(module.training)
    _swap(plain, swaps)
    return plain


def _reorder(module: nn.Module, names: tuple[str, ...]) -> None:
    for name in names:
        module._parameters[name] = module._parameters.pop(name)


def _unparametrize(module: nn.Module, value: Tensor) -> None:
    """Removes a copy's parametrization. `remove_parametrizations` would edit the class, which the original shares."""
    requires_grad = latent(module).requires_grad
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    module.weight = nn.Parameter(value, requires_grad=requires_grad)


def _swap(network: nn.Module, swaps: dict[int, nn.Module]) -> None:
    """Replaces modules in all their parents."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in swaps:
                setattr(parent, name, swaps[id(child)])
