"""What each kind of event does: choose masks or scales and write them into the sites' buffers."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from qp_runner.compress.calibration import check_finite, choose_scale, clip_quantiles, has_values
from qp_runner.compress.errors import no_values
from qp_runner.compress.mask import magnitude_mask
from qp_runner.compress.observers import MeanMagnitude, Observer, Subsample
from qp_runner.compress.settings import Settings
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite, WeightSite
from qp_runner.schedule import FLOAT_BITS, Target

log = logging.getLogger(__name__)

Run = Callable[[], None]


def prune_weights(weights: Mapping[WeightSite, Tensor], sparsity: float, *, computed: bool = False) -> None:
    """New masks for the prunable sites, from the magnitudes of the latent weights, or of what is computed with."""
    for site, weight in weights.items():
        if site.prunable:
            check_finite(weight, site.path)
            _prune(site, (site.value(weight) if computed else weight).abs(), sparsity)


def quantize_weights(weights: Mapping[WeightSite, Tensor], bits: int, settings: Settings) -> None:
    """New scales from the masked weights, one for each output channel."""
    for site, weight in weights.items():
        check_finite(weight, site.path)
        if bits == FLOAT_BITS:
            site.set_quantizer(torch.ones_like(site.scale), bits)
        else:
            own = site.bits_for(bits)
            site.set_quantizer(_channel_scales(site, weight, own, settings), own)


def prune_activations(
    sites: Sequence[ActivationSite],
    sparsity: float,
    settings: Settings,
    run: Run,
    *,
    observe: Literal["before", "after"] = "before",
) -> None:
    """New masks for the prunable sites, from the mean magnitude in one pass of `run` of what the sites are given, or
    (`after`) of what they hand on.

    In that pass the network still has its masks and quantizers from before the event.
    """
    observers = {site: MeanMagnitude(site.path, settings.granularity) for site in sites if site.prunable}
    with _observing(observe, observers):
        run()
    for site, seen in observers.items():
        _prune(site, seen.result(), sparsity)


def quantize_activations(sites: Sequence[ActivationSite], bits: int, settings: Settings, run: Run) -> None:
    """New scales, one for each site, from one pass of `run` in which activations are masked but not quantized, so that
    earlier scales have no influence.
    """
    for site in sites:
        site.set_quantizer(site.scale, FLOAT_BITS)
    if bits == FLOAT_BITS:
        return
    observers = {site: Subsample(site.path, settings.sample_limit) for site in sites}
    with _observing("after", observers):
        run()
    for site, seen in observers.items():
        values = seen.result()[None]
        if not bool(has_values(values)):
            raise no_values(site.path, Target.ACTIVATION)
        own = site.bits_for(bits)
        site.set_quantizer(_scales(values, own, settings), own)


def _prune(site: Site, saliency: Tensor, sparsity: float) -> None:
    if sparsity > 0 and not bool(saliency.any()):
        log.warning("site %s: all values are zero when it is pruned, so the first elements go", site.path)
    site.set_mask(magnitude_mask(saliency, sparsity))


def _channel_scales(site: WeightSite, weight: Tensor, bits: int, settings: Settings) -> Tensor:
    """One scale for each output channel. A channel that is pruned whole may return when weights are ranked again, so
    its scale is that of its latent weights; that of a channel of zeros is the largest of the others.
    """
    rows = site.rows(weight * site.mask.to(weight.dtype))
    rows = torch.where(has_values(rows)[:, None], rows, site.rows(weight))
    valued = has_values(rows)
    if not bool(valued.any()):
        raise no_values(site.path, Target.WEIGHT)
    scales = _scales(rows, bits, settings)
    return torch.where(valued, scales, scales[valued].max())


def _scales(rows: Tensor, bits: int, settings: Settings) -> Tensor:
    """One scale for each row of values. Rows of which quantiles leave nothing but zeros are not clipped."""
    if settings.quantiles is not None:
        clipped = clip_quantiles(rows, settings.quantiles)
        rows = torch.where(has_values(clipped)[:, None], clipped, rows)
    return choose_scale(rows, bits=bits, kind=settings.scale)


@contextmanager
def _observing(where: Literal["before", "after"], observers: Mapping[ActivationSite, Observer]) -> Iterator[None]:
    """Shows observers the input (`before`) or the output (`after`) of their sites."""
    for site, observer in observers.items():
        setattr(site, where, observer)
    try:
        yield
    finally:
        for site in observers:
            setattr(site, where, None)
