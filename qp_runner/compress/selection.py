"""Which tensors of a network are sites: globs over parameters and calls, or all of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from qp_runner.compress.candidates import Candidate, call_candidates, matching, parameter_candidates
from qp_runner.compress.location import SiteLocation
from qp_runner.compress.survey import Survey
from qp_runner.errors import ConfigError

_Embeddings = (nn.Embedding, nn.EmbeddingBag)


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


def select(networks: Mapping[str, nn.Module], sites: SiteSelection, survey: Survey | None = None) -> Selected:
    """The sites that a selection picks.

    Args:
        networks: by name.
        sites: the selection.
        survey: of their calls. Without it, sites are outputs of modules, each for all calls of its module.

    Raises:
        ConfigError: a glob that matches nothing, a weight that can't be compressed.
    """
    matched, weights, skipped = _weights(parameter_candidates(networks), sites, survey)
    calls = call_candidates(networks, survey)
    if sites.activation is None:
        activations = [each for each in calls if survey is None or each.path in survey.chosen]
    else:
        activations = matching(sites.activation, calls, "model.sites.activation")
    everything = matched + activations
    out = matching(sites.exclude, everything, "model.sites.exclude")
    unpruned = _ends(everything, survey) if sites.unpruned is None else None
    unpruned = unpruned or matching(sites.unpruned or (), everything, "model.sites.unpruned")
    for glob in sites.bits:
        matching([glob], everything, "model.sites.bits")

    def locations(candidates: Iterable[Candidate]) -> tuple[SiteLocation, ...]:
        return tuple(
            _location(each, prunable=not _among(each, unpruned), bits=sites.bits)
            for each in candidates
            if not _among(each, out)
        )

    if sites.activation is None and survey is not None:
        skipped += [Skipped(name, reason) for name, reason in survey.left.items()]
    excluded = [each.path for each in activations if _among(each, out)]
    if survey is not None:
        excluded += [name for name, place in survey.places.items() if place in excluded]
    skipped += [Skipped(path, "excluded") for path in dict.fromkeys(excluded)]
    return Selected(locations(weights), locations(activations), tuple(skipped))


def _location(candidate: Candidate, *, prunable: bool, bits: Mapping[str, int]) -> SiteLocation:
    module, name = candidate.holders[0]
    function = candidate.call[0].rpartition(".")[2] if candidate.call and candidate.function else None
    return SiteLocation(
        candidate.path,
        module,
        prunable,
        users=tuple(candidate.holders),
        name=name,
        call=candidate.call,
        batch_axis=candidate.batch_axis,
        bits=next((width for glob, width in bits.items() if candidate.matches([glob])), None),
        kind=function or type(module).__name__,
    )


def _among(candidate: Candidate, others: Iterable[Candidate]) -> bool:
    return any(candidate is each for each in others)


def _weights(
    matrices: Sequence[Candidate], sites: SiteSelection, survey: Survey | None
) -> tuple[list[Candidate], list[Candidate], list[Skipped]]:
    """The weights that a selection names, those of them that become sites, and the others with the reason."""
    auto = sites.weight is None
    named = list(matrices) if auto else matching(sites.weight or (), matrices, "model.sites.weight")
    chosen, skipped = [], []
    for each in named:
        trained = any(parameter.requires_grad for parameter in each.parameters)
        if each.matches(sites.exclude):
            skipped.append(Skipped(each.path, "excluded"))
        elif not trained and not sites.frozen:
            skipped.append(Skipped(each.path, "frozen"))
        elif auto and survey is not None and survey.read.isdisjoint(map(id, each.parameters)):
            skipped.append(Skipped(each.path, "takes no part in the forward pass of one sample in evaluation"))
        elif (problem := _problem(each)) and not auto:
            raise ConfigError("model.sites.weight", each.path, f"{problem}; leave it out")
        elif problem:
            skipped.append(Skipped(each.path, problem))
        else:
            chosen.append(each)
    return named, chosen, skipped


def _ends(candidates: Sequence[Candidate], survey: Survey | None) -> list[Candidate]:
    """The first and the last layer of every network, and what they write."""
    if survey is None:
        return []
    return [
        each
        for each in candidates
        if (not survey.end_weights.isdisjoint(map(id, each.parameters)) if each.is_weight else each.path in survey.ends)
    ]


def _problem(weight: Candidate) -> str:
    """Why a weight can't be compressed; empty if it can."""
    parameter = weight.parameters[0]
    if parameter.numel() == 0:
        return f"has no elements (shape {list(parameter.shape)})"
    if not parameter.is_floating_point():
        return f"has numbers of type {str(parameter.dtype).removeprefix('torch.')}, which have no uniform quantizer"
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
