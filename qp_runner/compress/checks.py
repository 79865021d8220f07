"""What must hold of networks and sites before anything is trained; each error names the site."""

from collections.abc import Mapping, Sequence

from torch import nn

from qp_runner.compress.errors import never_called
from qp_runner.compress.graph import LATENT, Graph
from qp_runner.compress.selection import SiteLocation
from qp_runner.errors import ConfigError


def check_ties(networks: Mapping[str, nn.Module], weights: Sequence[SiteLocation]) -> None:
    """Raises ConfigError for a weight site whose Parameter another module computes with uncompressed, or otherwise."""
    chosen = {(id(each.module), "weight"): each for each in weights}
    first: dict[int, SiteLocation] = {}
    for each in weights:
        one = first.setdefault(id(each.module.weight), each)
        if (one.prunable, one.channel_axis) != (each.prunable, each.channel_axis):
            what = "pruned" if one.prunable != each.prunable else "quantized along one axis"
            raise ConfigError(
                "model.sites.weight", each.path, f"is one Parameter with {one.path}, so both or neither must be {what}"
            )
    for network in networks.values():
        for path, module in network.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                site = first.get(id(parameter))
                if site is not None and (id(module), name) not in chosen:
                    other = f"{path}.{name}".lstrip(".")
                    raise ConfigError(
                        "model.sites.weight",
                        site.path,
                        f"is one Parameter with {other}, which would compute with the uncompressed value: "
                        "let the globs match both, or neither",
                    )


def check_used(graph: Graph, *, weights: Sequence[str], activations: Sequence[str]) -> None:
    """Raises ConfigError for a site that takes no part in a forward pass, or a latent weight that is used directly."""
    for path in weights:
        if reader := graph.read.get(LATENT + path):
            raise ConfigError(
                "model.sites.weight",
                path,
                f"is also used uncompressed, in {reader}: read it as its module's attribute",
            )
        if path not in graph.read:
            raise ConfigError(
                "model.sites.weight", path, "takes no part in the network's forward pass in evaluation; leave it out"
            )
    for path in activations:
        if path not in graph.calls:
            raise never_called(path)


def check_batch(one: Graph, two: Graph) -> None:
    """Raises ConfigError for an activation site whose batch is not dimension 0, from passes of one and two samples.

    Only outputs that differ in a single dimension, which is twice as long, tell: samples may have different sizes.
    """
    for path, shapes in one.calls.items():
        for a, b in zip(shapes, two.calls.get(path, ()), strict=False):
            longer = [d for d in range(len(a)) if len(a) == len(b) and a[d] != b[d]]
            if len(longer) == 1 and longer[0] != 0 and b[longer[0]] == 2 * a[longer[0]]:
                raise ConfigError(
                    "model.sites.activation",
                    path,
                    f"has the batch in dimension {longer[0]} of {list(b)}, but it has to be dimension 0; leave it out",
                )
