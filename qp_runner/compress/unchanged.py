"""Whether networks still return what they did before sites were attached to them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.arguments import tensors_returned
from qp_runner.compress.isolation import undisturbed
from qp_runner.compress.site import Site
from qp_runner.compress.survey import Run
from qp_runner.errors import ConfigError

OTHER_VALUES = (
    "returns other values once sites are attached to it, as where its code asks for the type of a module "
    "(`type(layer) is nn.Conv2d`); isinstance finds compressed layers too"
)
WRITTEN_THROUGH = (
    "can't be a site: what a site hands on is a tensor of its own, and the network needs this very one, as where it "
    "writes in place into a part (`y = x[:, :4]; y.mul_(2)`); exclude it by model.sites.exclude"
)


def check_unchanged(networks: Mapping[str, nn.Module], run: Run, before: list[Tensor], sites: Sequence[Site]) -> None:
    """Raises ConfigError if `run` makes networks with sites return other values than `before`, which they returned
    without; sites compute meanwhile, but prune and quantize nothing. What differs from call to call by itself, as with
    noise of a generator of its own, is no error.
    """

    def returned(computing: Sequence[Site]) -> list[Tensor]:
        for site in computing:
            site.static = True
        try:
            return outputs(networks.values(), run)
        finally:
            for site in computing:
                site.static = False

    after = returned(sites)
    if _close(after, before) or not _close(after, returned(sites)):
        return
    if not _close(returned([]), before):
        raise ConfigError("model.networks", ", ".join(networks), OTHER_VALUES)
    found = next((site.path for site in sites if not _close(returned([site]), before)), "")
    raise ConfigError("model.sites", found or ", ".join(networks), WRITTEN_THROUGH)


def outputs(networks: Iterable[nn.Module], run: Run) -> list[Tensor]:
    """Copies of all tensors that networks return in `run`, which changes nothing about them."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        found.extend(each.detach().clone() for each in tensors_returned(output))

    networks = list(networks)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(networks))
        for network in networks:
            stack.callback(network.register_forward_hook(keep).remove)
        run()
    return found


def _close(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether these are the same values, up to 0.1 % of the largest: a GPU may add in another order each time."""
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    one, other = (each.cpu().to(torch.complex128).nan_to_num() for each in (one, other))  # holds numbers of any type
    largest = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=1e-3 * largest)
