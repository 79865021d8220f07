"""Attaching sites to modules, and detaching them.

An activation site is a forward hook of its module. A weight site changes its module's class to a subclass, whose
`weight` is a property that computes the site's value of the Parameter. The Parameter itself stays where it was, so a
network keeps the names and the order of its parameters and of its state_dict.

A copy of an attached network (`copy.deepcopy`, and so `torch.optim.swa_utils.AveragedModel`) has its own Parameters and
shares the sites: it follows later events. A pickled network takes its sites with it, as they are. A copy made before
attaching is a float network and stays one.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from qp_runner.compress.selection import SiteLocation
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite, WeightSite

_REFERENCE = "_weight_site"  # where a module keeps the reference to its weight's site


class Reference:
    """A module's reference to its site. Copies of the module refer to the same site, unless that is copied along (as
    when a compressor is copied with its networks).
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def __deepcopy__(self, memo: dict[int, Any]) -> "Reference":
        return type(self)(memo.get(id(self.site), self.site))


class OutputHook(Reference):
    """An activation site as a forward hook."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        """The site's value of the module's output, or None to leave it as it is."""
        return cast(ActivationSite, self.site).hook(module, args, output)


class CompressedWeight:
    """What comes before a module's own class once a site is attached to its weight."""

    @property
    def weight(self) -> Tensor:
        """The weight that the module computes with."""
        try:
            site: Site = self.__dict__[_REFERENCE].site
            return cast(Tensor, site(self.__dict__["_parameters"]["weight"]))
        except AttributeError as error:  # nn.Module would take it for a missing property and return the Parameter
            raise RuntimeError(f"the weight's site can't compute: {error}") from error

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        state = super().__reduce_ex__(protocol)[2]
        return _recreate, (plain_class(type(self)),), state


@cache
def compressed_class(plain: type) -> type:
    """The subclass of a module's class whose `weight` is computed by a site."""
    return type(f"Compressed{plain.__name__}", (CompressedWeight, plain), {"__module__": __name__, "plain": plain})


def plain_class(kind: type) -> type:
    """A module's class without a site."""
    return cast(type, kind.__dict__["plain"]) if is_compressed(kind) else kind


def is_compressed(kind: type) -> bool:
    """Whether a class was made by `compressed_class`."""
    return CompressedWeight in kind.__bases__


def _recreate(plain: type) -> nn.Module:
    kind: Any = compressed_class(plain)
    return cast(nn.Module, kind.__new__(kind))


@dataclass(frozen=True)
class Attachment:
    """A site attached to a module; `handle` is an activation site's hook."""

    site: Site
    module: nn.Module
    handle: RemovableHandle | None = None

    def remove(self) -> None:
        """Detaches the site: the module computes with its Parameter, or returns its own output, again."""
        if self.handle is not None:
            self.handle.remove()
        else:
            detach_weight(self.module)


def latent(module: nn.Module) -> nn.Parameter:
    """The Parameter behind a module's weight, attached or not."""
    return cast(nn.Parameter, module._parameters["weight"])


def attach_weight(module: nn.Module, site: WeightSite) -> Attachment:
    """Makes a module compute with the site's value of its weight. Raises RuntimeError if it does so already."""
    if is_compressed(type(module)):
        raise RuntimeError(f"site {site.path}: this weight is compressed already; detach the other compressor first")
    module.__dict__[_REFERENCE] = Reference(site)
    module.__class__ = compressed_class(cast(type, type(module)))
    return Attachment(site, module)


def detach_weight(module: nn.Module) -> None:
    """Makes a module, or a copy of one, compute with its Parameter again."""
    module.__class__ = plain_class(type(module))
    del module.__dict__[_REFERENCE]


def attach_activation(location: SiteLocation, site: ActivationSite) -> Attachment:
    """Makes the module return the site's value of its output."""
    return Attachment(site, location.module, location.module.register_forward_hook(OutputHook(site)))
