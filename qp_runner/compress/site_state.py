"""What events have made of a compressor's sites, as plain data by path, to be stored and put back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qp_runner.errors import ConfigError
from qp_runner.schedule import Target

if TYPE_CHECKING:
    from qp_runner.compress.compressor import Compressor
    from qp_runner.compress.site import Site


@dataclass(frozen=True)
class SiteState:
    """A site's state.

    Attributes:
        mask: bool, true keeps; None where nothing is pruned.
        scale: float32, one for each output channel of a weight, one for an activation.
        bits: 32 where nothing is quantized.
    """

    mask: Tensor | None
    scale: Tensor
    bits: int


def site_states(compressor: "Compressor") -> dict[str, SiteState]:
    """The state of every site by its path, on the CPU, in tensors of their own."""
    return {site.path: _state(site) for site in _sites(compressor)}


@torch.no_grad()
def put_site_states(compressor: "Compressor", states: Mapping[str, SiteState], *, key: str, value: str) -> None:
    """Gives every site its state.

    Raises ConfigError, of this key and value, for a site without a state, a state without a site, and a mask or a scale
    of another shape than the site's.
    """
    sites = {site.path: site for site in _sites(compressor)}
    if differing := sorted(states.keys() ^ sites.keys()):
        path = differing[0]
        where = "the file has it, the network has not" if path in states else "the network has it, the file has not"
        allowed = f"the same sites as the network's; {len(differing)} differ, such as {path} ({where})"
        raise ConfigError(key, value, allowed)
    for path, site in sites.items():
        state = states[path]
        if state.scale.numel() != site.scale.numel():
            raise ConfigError(key, value, f"{site.scale.numel()} scales for {path}; it has {state.scale.numel()}")
        if state.mask is not None and state.mask.shape != site.mask.shape:
            shapes = f"{[*site.mask.shape]}; it has {[*state.mask.shape]}"
            raise ConfigError(key, value, f"a mask of {path} of shape {shapes}")
        keeps_all = torch.ones_like(site.mask)
        site.set_mask(keeps_all if state.mask is None else state.mask.to(keeps_all))
        site.set_quantizer(state.scale.to(site.scale.device), state.bits)
    compressor.refresh_bank()


def _state(site: "Site") -> SiteState:
    mask = (site.mask != 0).cpu() if site.is_pruning else None
    return SiteState(mask, site.scale.detach().cpu().clone(), int(site.bits))


def _sites(compressor: "Compressor") -> list["Site"]:
    return [site for target in Target for site in compressor.sites(target)]
