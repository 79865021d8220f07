"""Which tensors of a network are sites: globs over parameters and calls, or all of them."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from qp_runner.compress.attach import latent
from qp_runner.compress.calls import numbered, prefixes
from qp_runner.compress.survey import Survey
from qp_runner.errors import ConfigError

_Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_Embeddings = (nn.Embedding, nn.EmbeddingBag)
AUTO = "auto"


@dataclass(frozen=True)
class SiteSelection:
    """Globs (`*`, `?`, `[…]`; `*` crosses dots) that pick a network's sites. None stands for all, chosen by `survey`.

    Attributes:
        weight: over Parameters of two or more dimensions, such as `layers.3.conv.weight`. None: all that a forward
            pass reads.
        activation: over calls (see `calls`), such as `layers.3.relu` or `layers.3.add`; the call's result is the site.
            A glob that matches a module finds all of its calls. None: one site for every tensor that lies in memory.
        unpruned: over both; what it matches is quantized but never pruned. None: the first layer and its output, the
            last layer and the output.
        frozen: whether weights that are not trained (`requires_grad=False`) are sites too.
        exclude: over both; what it matches is no site.
        bits: by glob over both, a bit width in place of an event's; the first glob that matches counts.

    With several networks, paths begin with the network's name: `generator.layers.3.relu`. A module with several names,
    or a weight that several modules share, is one thing: any of its names finds it, its path is the first.
    """

    weight: tuple[str, ...] | None = None
    activation: tuple[str, ...] | None = None
    unpruned: tuple[str, ...] | None = ()
    frozen: bool = False
    exclude: tuple[str, ...] = ()
    bits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteLocation:
    """Where a site is.

    Attributes:
        path: its name.
        module: the module whose weight or output it is; the network, for a function's result.
        users: all modules that hold this weight, each with the name by which it does.
        name: of the weight in its module.
        call: the name without number, the number, and how many calls have this name, of a call that is not the only one
            of a module.
        batch_axis: the dimension of an activation that is the batch.
        bits: in place of an event's.
        kind: the class of the module, or the name of the function.
    """

    path: str
    module: nn.Module
    prunable: bool
    users: tuple[tuple[nn.Module, str], ...] = ()
    name: str = "weight"
    call: tuple[str, int, int] | None = None
    batch_axis: int = 0
    bits: int | None = None
    kind: str = ""

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
    """What was asked for but is no site."""

    path: str
    reason: str


@dataclass(frozen=True)
class Selected:
    """A network's sites: weights in module order, then modules' outputs and functions' results in order of calls."""

    weights: tuple[SiteLocation, ...]
    activations: tuple[SiteLocation, ...]
    skipped: tuple[Skipped, ...]


@dataclass
class _Candidate:
    """What may become a site: a Parameter with all modules that hold it, or a call."""

    names: list[str] = field(default_factory=list)
    holders: list[tuple[nn.Module, str]] = field(default_factory=list)
    call: tuple[str, int, int] | None = None  # None: the only call of a module
    batch_axis: int = 0
    function: bool = False

    @property
    def path(self) -> str:
        return numbered(*self.call[:2]) if self.call else self.names[0]

    @property
    def is_weight(self) -> bool:
        return bool(self.holders[0][1])

    @property
    def parameters(self) -> list[nn.Parameter]:
        return parameters_behind(*self.holders[0])

    def matches(self, globs: Iterable[str]) -> bool:
        return any(fnmatchcase(name, glob) for name in self.names for glob in globs)


def select(networks: Mapping[str, nn.Module], sites: SiteSelection, survey: Survey | None = None) -> Selected:
    """The sites that a selection picks.

    Args:
        networks: by name.
        sites: the selection.
        survey: of their calls. Without it, sites are outputs of modules, each for all calls of its module.

    Raises:
        ConfigError: a glob that matches nothing, a weight that can't be compressed.
    """
    matched, weights, skipped = _weights(_parameters(networks), sites, survey)
    calls = _calls(networks, survey)
    if sites.activation is None:
        activations = [each for each in calls if survey is None or each.path in survey.chosen]
    else:
        activations = _matching(sites.activation, calls, "model.sites.activation")
    everything = matched + activations
    out = _matching(sites.exclude, everything, "model.sites.exclude")
    unpruned = _ends(everything, survey) if sites.unpruned is None else None
    unpruned = unpruned or _matching(sites.unpruned or (), everything, "model.sites.unpruned")
    for glob in sites.bits:
        _matching([glob], everything, "model.sites.bits")

    def locations(candidates: Iterable[_Candidate]) -> tuple[SiteLocation, ...]:
        return tuple(
            _location(each, prunable=not _among(each, unpruned), bits=sites.bits)
            for each in candidates
            if not _among(each, out)
        )

    skipped += [Skipped(each.path, "excluded") for each in activations if _among(each, out)]
    return Selected(locations(weights), locations(activations), tuple(skipped))


def _location(candidate: _Candidate, *, prunable: bool, bits: Mapping[str, int]) -> SiteLocation:
    module, name = candidate.holders[0]
    return SiteLocation(
        candidate.path,
        module,
        prunable,
        tuple(candidate.holders),
        name,
        candidate.call,
        candidate.batch_axis,
        next((width for glob, width in bits.items() if candidate.matches([glob])), None),
        candidate.call[0].rpartition(".")[2] if candidate.call and candidate.function else type(module).__name__,
    )


def _among(candidate: _Candidate, others: Iterable[_Candidate]) -> bool:
    return any(candidate is each for each in others)


def _weights(
    matrices: Sequence[_Candidate], sites: SiteSelection, survey: Survey | None
) -> tuple[list[_Candidate], list[_Candidate], list[Skipped]]:
    """The weights that a selection names, those of them that become sites, and the others with the reason."""
    auto = sites.weight is None
    named = list(matrices) if auto else _matching(sites.weight or (), matrices, "model.sites.weight")
    chosen, skipped = [], []
    for each in named:
        trained = any(parameter.requires_grad for parameter in each.parameters)
        if each.matches(sites.exclude):
            skipped.append(Skipped(each.path, "excluded"))
        elif not trained and not sites.frozen:
            skipped.append(Skipped(each.path, "frozen"))
        elif auto and survey is not None and survey.read.isdisjoint(map(id, each.parameters)):
            skipped.append(Skipped(each.path, "takes no part in the forward pass in evaluation"))
        elif (problem := _problem(each)) and not auto:
            raise ConfigError("model.sites.weight", each.path, f"{problem}; leave it out")
        elif problem:
            skipped.append(Skipped(each.path, problem))
        else:
            chosen.append(each)
    return named, chosen, skipped


def _ends(candidates: Sequence[_Candidate], survey: Survey | None) -> list[_Candidate]:
    """The first and the last layer of every network, and what they write."""
    if survey is None:
        return []
    return [
        each
        for each in candidates
        if (not survey.end_weights.isdisjoint(map(id, each.parameters)) if each.is_weight else each.path in survey.ends)
    ]


def _modules(networks: Mapping[str, nn.Module]) -> list[_Candidate]:
    """All modules but the networks themselves, each with all of its names."""
    found: dict[int, _Candidate] = {}
    for path, module in _named(networks):
        if path:
            found.setdefault(id(module), _Candidate(holders=[(module, "")])).names.append(path)
    return list(found.values())


def _named(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """All modules with their paths, under every name; a network's own is empty or its prefix."""
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules(remove_duplicate=False):
            yield (prefix + path if path else ""), module


def _calls(networks: Mapping[str, nn.Module], survey: Survey | None) -> list[_Candidate]:
    """Every call as a candidate, modules first; modules that a survey has not seen called, too."""
    modules = _modules(networks)
    if survey is None:
        return modules
    found: list[_Candidate] = []
    left = dict(survey.calls)
    for each in modules:
        name = each.names[0]
        count = survey.calls[name].count if name in survey.calls else 1
        for number in range(count):
            path = numbered(name, number)
            names = each.names if not number else [*each.names, path]
            call = left.pop(path, None)
            place = (name, number, count) if count > 1 else None
            found.append(_Candidate(names, each.holders, place, call.batch_axis if call else 0))
    for path, call in left.items():
        owner = next(network for prefix, network in prefixes(networks) if path.startswith(prefix))
        place = (call.name, call.number, call.count)
        found.append(_Candidate([path], [(owner, "")], place, call.batch_axis, function=True))
    return found


def _parameters(networks: Mapping[str, nn.Module]) -> list[_Candidate]:
    """Every matrix that modules hold, with all of them."""
    found: dict[int, _Candidate] = {}
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules(remove_duplicate=False):
            for name in () if isinstance(module, ParametrizationList) else matrices(module):
                candidate = found.setdefault(id(parameters_behind(module, name)[0]), _Candidate())
                candidate.names.append(prefix + (f"{path}.{name}" if path else name))
                if not any(module is holder and name == own for holder, own in candidate.holders):
                    candidate.holders.append((module, name))
    return list(found.values())


def matrices(module: nn.Module) -> list[str]:
    """The names of a module's own tensors of two or more dimensions that are Parameters or made of them."""
    own = ((name, each) for name, each in module._parameters.items() if each is not None)
    names = [name for name, each in own if is_lazy(each) or each.dim() >= 2]
    made: Iterable[str] = module.parametrizations if is_parametrized(module) else ()  # type: ignore[assignment]
    return names + [name for name in made if latent(module, name).dim() >= 2]


def parameters_behind(module: nn.Module, name: str) -> list[nn.Parameter]:
    """The Parameter of a name; for a parametrized tensor, those that it is made of."""
    parameter = module._parameters.get(name)
    return list(module.parametrizations[name].parameters()) if parameter is None else [parameter]  # type: ignore[index, union-attr]


def _problem(weight: _Candidate) -> str:
    """Why a weight can't be compressed; empty if it can."""
    parameter = weight.parameters[0]
    if is_lazy(parameter):
        return "must have a shape: pass a sample through this lazy module first"
    if parameter.numel() == 0:
        return f"has no elements (shape {list(parameter.shape)})"
    for module, name in weight.holders:
        if isinstance(module, _Embeddings) and (module.max_norm is not None or module.sparse):
            return "is an embedding with max_norm or sparse gradients, which need the Parameter itself"
        hooks = (each for each in module._forward_pre_hooks.values() if isinstance(each, WeightNorm | SpectralNorm))
        if any(name.startswith(f"{hook.name}_") for hook in hooks):
            return "is normalised by a hook of torch.nn.utils; torch.nn.utils.parametrizations has the same without"
    places = [SiteLocation(weight.path, module, True) for module, _ in weight.holders]
    if len({(place.channel_axis, place.groups) for place in places}) > 1:
        return f"is one Parameter with {' and '.join(weight.names[1:])}, whose output channels are another dimension"
    return ""


def _matching(globs: Sequence[str], candidates: Sequence[_Candidate], key: str) -> list[_Candidate]:
    names = [name for candidate in candidates for name in candidate.names]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            close = difflib.get_close_matches(glob, names, n=3, cutoff=0.4) or names[:3]
            near = ", ".join(close) if close else "nothing to choose from"
            raise ConfigError(key, glob, f"matches nothing in this network; near: {near}")
    return [each for each in candidates if each.matches(globs)]
