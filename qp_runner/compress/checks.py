"""What must hold of networks and sites before anything is trained; each error names the site."""

from collections.abc import Mapping, Sequence

from qp_runner.compress.errors import never_called
from qp_runner.compress.graph import LATENT, Graph
from qp_runner.errors import ConfigError


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
                "model.sites.weight",
                path,
                "takes no part in the network's forward pass of one sample in evaluation; leave it out",
            )
    for path in activations:
        if path not in graph.calls:
            raise never_called(path)


def check_batch(one: Graph, two: Graph, axes: Mapping[str, int]) -> None:
    """Raises ConfigError for an activation site whose batch is not the dimension that it is taken to be, from passes of
    one and two samples.

    Only outputs that differ in a single dimension, which is twice as long, tell: samples may have different sizes.
    """
    for path, shapes in one.calls.items():
        for a, b in zip(shapes, two.calls.get(path, ()), strict=False):
            longer = [d for d in range(len(a)) if len(a) == len(b) and a[d] != b[d]]
            if len(longer) == 1 and longer[0] != axes[path] and b[longer[0]] == 2 * a[longer[0]]:
                raise ConfigError(
                    "model.sites.activation",
                    path,
                    f"has the batch in dimension {longer[0]} of {list(b)}, but it has to be dimension {axes[path]}; "
                    "leave it out",
                )
