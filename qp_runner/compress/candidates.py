"""What of a network may become a site: its matrices and its calls, found by globs."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from qp_runner.compress.attach import latent
from qp_runner.compress.calls import numbered, prefixes
from qp_runner.compress.survey import Survey
from qp_runner.errors import ConfigError


@dataclass
class Candidate:
    """What may become a site: a Parameter with all modules that hold it, or a call.

    Attributes:
        names: all of them, each with the network's name before it where there are several.
        holders: the modules that hold a Parameter, each with its name there; the module that is called, with an empty
            name; the network, for a function's call.
        call: see `SiteLocation`.
        batch_axis: the dimension of a call's result that is the batch.
        function: whether a function is called, not a module.
    """

    names: list[str] = field(default_factory=list)
    holders: list[tuple[nn.Module, str]] = field(default_factory=list)
    call: tuple[str, int, int] | None = None
    batch_axis: int = 0
    function: bool = False

    @property
    def path(self) -> str:
        """The name that it has as a site."""
        return numbered(*self.call[:2]) if self.call else self.names[0]

    @property
    def is_weight(self) -> bool:
        """Whether it is a Parameter."""
        return bool(self.holders[0][1])

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The Parameters behind it (see `parameters_behind`)."""
        return parameters_behind(*self.holders[0])

    def matches(self, globs: Iterable[str]) -> bool:
        """Whether any glob matches any of its names."""
        return any(fnmatchcase(name, glob) for name in self.names for glob in globs)


def call_candidates(networks: Mapping[str, nn.Module], survey: Survey | None) -> list[Candidate]:
    """Every call as a candidate, modules first; modules that a survey has not seen called, too."""
    modules = _modules(networks)
    if survey is None:
        return modules
    found: list[Candidate] = []
    left = dict(survey.calls)
    for each in modules:
        name = each.names[0]
        count = survey.calls[name].count if name in survey.calls else 1
        for number in range(count):
            path = numbered(name, number)
            names = each.names if not number else [*each.names, path]
            call = left.pop(path, None)
            place = (name, number, count) if count > 1 else None
            found.append(Candidate(names, each.holders, place, call.batch_axis if call else 0))
    for path, call in left.items():
        owner = next(network for prefix, network in prefixes(networks) if path.startswith(prefix))
        place = (call.name, call.number, call.count)
        found.append(Candidate([path], [(owner, "")], place, call.batch_axis, function=True))
    return found


def parameter_candidates(networks: Mapping[str, nn.Module]) -> list[Candidate]:
    """Every matrix that modules hold, with all of them."""
    found: dict[int, Candidate] = {}
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules(remove_duplicate=False):
            for name in () if isinstance(module, ParametrizationList) else matrices(module):
                candidate = found.setdefault(id(parameters_behind(module, name)[0]), Candidate())
                candidate.names.append(prefix + (f"{path}.{name}" if path else name))
                if not any(module is holder and name == own for holder, own in candidate.holders):
                    candidate.holders.append((module, name))
    return list(found.values())


def _modules(networks: Mapping[str, nn.Module]) -> list[Candidate]:
    """All modules but the networks themselves, each with all of its names."""
    found: dict[int, Candidate] = {}
    for path, module in _named(networks):
        if path:
            found.setdefault(id(module), Candidate(holders=[(module, "")])).names.append(path)
    return list(found.values())


def _named(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """All modules with their paths, under every name; a network's own is empty or its prefix."""
    for prefix, network in prefixes(networks):
        for path, module in network.named_modules(remove_duplicate=False):
            yield (prefix + path if path else ""), module


def matrices(module: nn.Module) -> list[str]:
    """The names of a module's own tensors of two or more dimensions that are Parameters or made of them."""
    own = ((name, each) for name, each in module._parameters.items() if each is not None)
    names = [name for name, each in own if each.dim() >= 2]
    made: Iterable[str] = module.parametrizations if is_parametrized(module) else ()  # type: ignore[assignment]
    return names + [name for name in made if latent(module, name).dim() >= 2]


def parameters_behind(module: nn.Module, name: str) -> list[nn.Parameter]:
    """The Parameter of a name; for a parametrized tensor, those that it is made of."""
    parameter = module._parameters.get(name)
    return list(module.parametrizations[name].parameters()) if parameter is None else [parameter]  # type: ignore[index, union-attr]


def matching(globs: Sequence[str], candidates: Sequence[Candidate], key: str) -> list[Candidate]:
    """Those that a glob matches. Raises ConfigError for a glob that matches none, naming `key` and near names."""
    names = [name for candidate in candidates for name in candidate.names]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            close = difflib.get_close_matches(glob, names, n=3, cutoff=0.4) or names[:3]
            near = ", ".join(close) if close else "nothing to choose from"
            raise ConfigError(key, glob, f"matches nothing in this network; near: {near}")
    return [each for each in candidates if each.matches(globs)]
