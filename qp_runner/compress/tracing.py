"""The graph of networks with sites, from a forward pass of one sample, and what the pass shows of later faults."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from qp_runner.compress import rehearsal
from qp_runner.compress.attached import AttachedSites
from qp_runner.compress.calls import prefixes
from qp_runner.compress.checks import check_batch, check_used
from qp_runner.compress.events import Run
from qp_runner.compress.graph import LATENT, Graph, trace
from qp_runner.compress.isolation import parameters_kept, undisturbed
from qp_runner.compress.rehearsal import Fault
from qp_runner.compress.site import switched_off
from qp_runner.compress.sites import serving


def trace_sites(sites: AttachedSites, run: Run, *, pair: Run | None = None) -> tuple[Graph, list[Fault]]:
    """Records what the networks compute in `run`. Activation masks get their final shape.

    Args:
        sites: attached to the networks.
        run: a forward pass of one sample.
        pair: one of two samples of the same shape, if there is one; shows where the batch is.

    Returns the graph, and the faults that only some events would run into.

    Raises ConfigError: see `Compressor.trace`.
    """
    activations = {site.path: site for site in sites.activations}
    faults: list[Fault] = []

    def seen(path: str, output: Tensor) -> None:
        site = activations[path]
        faults.extend(rehearsal.check_output(site, output))
        batch = output.movedim(site.batch_axis, 0)
        site.allocate(batch[0] if len(batch) else batch.new_empty(batch.shape[1:]))  # a detector may find nothing

    graph = _graph(sites, run, seen, faults)
    check_used(graph, weights=[site.path for site in sites.plain()], activations=list(activations))
    faults += rehearsal.check_calls(sites.activations, graph.calls)
    with parameters_kept(sites.networks.values()), _copies_served(sites, faults):
        rehearsal.in_training_mode(sites.networks.values(), run)
    if pair is not None:
        axes = {path: site.batch_axis for path, site in activations.items()}
        check_batch(graph, _graph(sites, pair, lambda _path, _output: None, faults), axes)
    return graph, faults


def _graph(sites: AttachedSites, run: Run, seen: Callable[[str, Tensor], None], faults: list[Fault]) -> Graph:
    """The graph of a pass in which every weight site returns a copy: whoever reads the latent weight is found."""
    parameters: dict[str, Tensor] = {
        f"parameter {prefix}{name}": parameter
        for prefix, network in prefixes(sites.networks)
        for name, parameter in network.named_parameters()
    }
    parameters |= {LATENT + site.path: latent for site, latent in sites.plain().items()}
    with _copies_served(sites, faults) as copies, rehearsal.norms_named(sites.networks):
        return trace(
            sites.networks,
            sites.modules(),
            parameters=parameters | copies,
            run=run,
            seen=seen,
            calls=[each.calls for each in sites.counting],
        )


@contextmanager
def _copies_served(sites: AttachedSites, faults: list[Fault]) -> Iterator[dict[str, Tensor]]:
    """Inside, networks are undisturbed, sites are off, and weight sites return copies, given by path. A write to a
    copy is noted as a fault.
    """
    latents = sites.plain()
    copies = {site: latent.detach().clone() for site, latent in latents.items()}
    by_path = {site.path: each for site, each in copies.items()}
    writes = rehearsal.Writes(by_path)
    with undisturbed(sites.networks.values()), switched_off(sites.all), serving(copies, latents=latents), writes:
        yield by_path
    faults += writes.faults()
