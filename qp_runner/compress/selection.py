"""Which tensors of a network are sites: globs over parameter and module paths."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from qp_runner.errors import ConfigError

_Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_Weighted = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_Transposed, nn.Linear)


@dataclass(frozen=True)
class SiteSelection:
    """Globs (`*`, `?`, `[…]`; `*` crosses dots) that pick a network's sites.

    Attributes:
        weight: over weights of convolutions, transposed convolutions and linear layers, such as `layers.3.conv.weight`.
        activation: over modules, such as `layers.3.relu`; the module's output is the site.
        unpruned: over both; what it matches is quantized but never pruned.

    With several networks, paths begin with the network's name: `generator.layers.3.relu`.
    """

    weight: tuple[str, ...]
    activation: tuple[str, ...]
    unpruned: tuple[str, ...] = ()


@dataclass(frozen=True)
class SiteLocation:
    """A site's path, and the module whose weight or output it is."""

    path: str
    module: nn.Module
    prunable: bool

    @property
    def channel_axis(self) -> int:
        """The dimension of the module's weight that runs over output channels."""
        return 1 if isinstance(self.module, _Transposed) else 0


def select(networks: Mapping[str, nn.Module], sites: SiteSelection) -> tuple[list[SiteLocation], list[SiteLocation]]:
    """The weight and the activation sites, in module order; raises ConfigError for a glob that matches nothing."""
    modules = dict(_modules(networks))
    weights = {f"{path}.weight": module for path, module in modules.items() if takes_sites(module)}
    chosen_weights = _matching(sites.weight, list(weights), "model.sites.weight")
    chosen_modules = _matching(sites.activation, list(modules), "model.sites.activation")
    unpruned = set(_matching(sites.unpruned, chosen_weights + chosen_modules, "model.sites.unpruned"))
    return (
        [SiteLocation(path, weights[path], path not in unpruned) for path in chosen_weights],
        [SiteLocation(path, modules[path], path not in unpruned) for path in chosen_modules],
    )


def _modules(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    for name, network in networks.items():
        prefix = f"{name}." if len(networks) > 1 else ""
        for path, module in network.named_modules():
            if path:
                yield prefix + path, module


def takes_sites(module: nn.Module) -> bool:
    """Whether a module's weight can be a site."""
    return isinstance(module, _Weighted) and module._parameters.get("weight") is not None


def _matching(globs: Sequence[str], paths: list[str], key: str) -> list[str]:
    for glob in globs:
        if not any(fnmatchcase(path, glob) for path in paths):
            close = difflib.get_close_matches(glob, paths, n=3, cutoff=0.4) or paths[:3]
            names = ", ".join(close) if close else "nothing to choose from"
            raise ConfigError(key, glob, f"matches nothing in this network; near: {names}")
    return [path for path in paths if any(fnmatchcase(path, glob) for glob in globs)]
