"""Which tensors of a network are sites: globs over parameter and module paths."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

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
        frozen: whether weights that are not trained (`requires_grad=False`) are sites too.

    With several networks, paths begin with the network's name: `generator.layers.3.relu`. A module with several names,
    or a weight that several modules share, is one site: any of its names finds it, its path is the first.
    """

    weight: tuple[str, ...]
    activation: tuple[str, ...]
    unpruned: tuple[str, ...] = ()
    frozen: bool = False


@dataclass(frozen=True)
class SiteLocation:
    """Where a site is.

    Attributes:
        path: its name.
        module: the module whose weight or output it is.
        users: all modules that hold this weight; for an activation the module alone.
    """

    path: str
    module: nn.Module
    prunable: bool
    users: tuple[nn.Module, ...] = ()

    @property
    def channel_axis(self) -> int:
        """The dimension of the module's weight that runs over output channels (those of one group, if transposed)."""
        return 1 if isinstance(self.module, _Transposed) else 0

    @property
    def groups(self) -> int:
        """How many parts dimension 0 of the weight has, each with output channels of its own.

        1 except for transposed grouped convolutions, whose weight is [in, out / groups, ...].
        """
        return int(self.module.groups) if isinstance(self.module, _Transposed) else 1


@dataclass(frozen=True)
class Skipped:
    """A weight that a glob matches but that is no site."""

    path: str
    reason: str


@dataclass(frozen=True)
class Selected:
    """A network's sites, each kind in module order."""

    weights: tuple[SiteLocation, ...]
    activations: tuple[SiteLocation, ...]
    skipped: tuple[Skipped, ...]


@dataclass
class _Candidate:
    """What may become a site: a module's output, or a Parameter with all modules that hold it."""

    names: list[str] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)
    foreign: str = ""  # another name of the Parameter, by which a module reads it that can't have a site for it


def select(networks: Mapping[str, nn.Module], sites: SiteSelection) -> Selected:
    """The sites that globs pick. Raises ConfigError for a glob that matches nothing and a weight that can't be one."""
    modules = _modules(networks)
    weights = _matching(sites.weight, _weights(modules, networks), "model.sites.weight")
    activations = _matching(sites.activation, modules, "model.sites.activation")
    unpruned = _matching(sites.unpruned, weights + activations, "model.sites.unpruned")

    def location(candidate: _Candidate) -> SiteLocation:
        prunable = not any(candidate is each for each in unpruned)
        return SiteLocation(candidate.names[0], candidate.modules[0], prunable, tuple(candidate.modules))

    frozen = [] if sites.frozen else [each for each in weights if not _parameter(each).requires_grad]
    chosen = [each for each in weights if not any(each is other for other in frozen)]
    for candidate in chosen:
        _check(candidate)
    return Selected(
        weights=tuple(map(location, chosen)),
        activations=tuple(map(location, activations)),
        skipped=tuple(Skipped(each.names[0], "frozen") for each in frozen),
    )


def _modules(networks: Mapping[str, nn.Module]) -> list[_Candidate]:
    """All modules but the networks themselves, each with all of its names."""
    found: dict[int, _Candidate] = {}
    for path, module in _named(networks):
        candidate = found.setdefault(id(module), _Candidate(modules=[module]))
        candidate.names.append(path)
    return list(found.values())


def _named(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    for name, network in networks.items():
        prefix = f"{name}." if len(networks) > 1 else ""
        for path, module in network.named_modules(remove_duplicate=False):
            if path:
                yield prefix + path, module


def takes_sites(module: nn.Module) -> bool:
    """Whether a module's weight can be a site."""
    return isinstance(module, _Weighted) and module._parameters.get("weight") is not None


def _weights(modules: Sequence[_Candidate], networks: Mapping[str, nn.Module]) -> list[_Candidate]:
    """Every Parameter that is a supported layer's weight. Whatever else holds it as its `weight`, such as an embedding,
    computes with the site's value too.
    """
    found: dict[int, _Candidate] = {}
    for module in modules:
        if takes_sites(module.modules[0]):
            candidate = found.setdefault(id(module.modules[0]._parameters["weight"]), _Candidate())
            candidate.names += [f"{name}.weight" for name in module.names]
            candidate.modules.append(module.modules[0])
    for network in networks.values():
        for path, holder in network.named_modules():
            for name, parameter in holder._parameters.items():
                if (shared := found.get(id(parameter))) is not None:
                    _share(shared, holder, name, path)
    return list(found.values())


def _share(weight: _Candidate, holder: nn.Module, name: str, path: str) -> None:
    """Notes that a module holds a Parameter under a name."""
    if name != "weight":
        weight.foreign = f"{path}.{name}".lstrip(".")
    elif not any(holder is each for each in weight.modules):
        weight.modules.append(holder)


def _parameter(weight: _Candidate) -> nn.Parameter:
    parameter = weight.modules[0]._parameters["weight"]
    assert parameter is not None
    return parameter


def _check(weight: _Candidate) -> None:
    """Raises ConfigError for a weight that can't be compressed."""
    path, parameter = weight.names[0], _parameter(weight)
    if is_lazy(parameter):
        raise ConfigError("model.sites.weight", path, "must have a shape: pass a sample through this lazy module first")
    if parameter.numel() == 0:
        raise ConfigError("model.sites.weight", path, f"has no elements (shape {list(parameter.shape)}); leave it out")
    if weight.foreign:
        raise ConfigError(
            "model.sites.weight",
            path,
            f"is one Parameter with {weight.foreign}, which would compute with the uncompressed value; leave it out",
        )
    layouts = {(each.channel_axis, each.groups) for each in _locations(weight)}
    if len(layouts) > 1:
        others = " and ".join(weight.names[1:])
        allowed = f"is one Parameter with {others}, whose output channels are another dimension; leave it out"
        raise ConfigError("model.sites.weight", path, allowed)


def _locations(weight: _Candidate) -> list[SiteLocation]:
    """A weight as that of each of its layers alone."""
    return [SiteLocation(weight.names[0], each, True) for each in weight.modules if isinstance(each, _Weighted)]


def _matching(globs: Sequence[str], candidates: Sequence[_Candidate], key: str) -> list[_Candidate]:
    names = [name for candidate in candidates for name in candidate.names]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            close = difflib.get_close_matches(glob, names, n=3, cutoff=0.4) or names[:3]
            near = ", ".join(close) if close else "nothing to choose from"
            raise ConfigError(key, glob, f"matches nothing in this network; near: {near}")
    return [each for each in candidates if any(fnmatchcase(name, glob) for name in each.names for glob in globs)]
