"""What each kind of event does: choose masks or scales and write them into the sites' buffers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from torch import Tensor

from qp_runner.compress.calibration import check_finite, choose_scale, clip_quantiles
from qp_runner.compress.mask import magnitude_mask
from qp_runner.compress.observers import MeanMagnitude, Observer, Subsample
from qp_runner.compress.settings import Settings
from qp_runner.compress.sites import ActivationSite, WeightSite
from qp_runner.schedule import FLOAT_BITS

Run = Callable[[], None]


def prune_weights(weights: Mapping[WeightSite, Tensor], sparsity: float) -> None:
    """New masks from the magnitudes of the latent weights, for the prunable sites."""
    for site, weight in weights.items():
        if site.prunable:
            check_finite(weight, site.path)
            site.set_mask(magnitude_mask(weight.abs(), sparsity))


def quantize_weights(weights: Mapping[WeightSite, Tensor], bits: int, settings: Settings) -> None:
    """New scales from the masked weights, one for each output channel."""
    for site, weight in weights.items():
        check_finite(weight, site.path)
        masked = weight * site.mask.to(weight.dtype)
        site.set_quantizer(_scale(site.rows(masked), bits, settings), bits)


def prune_activations(sites: Sequence[ActivationSite], sparsity: float, settings: Settings, run: Run) -> None:
    """New masks for the prunable sites, from the mean magnitude of their modules' outputs in one pass of `run`.

    In that pass the network still has its masks and quantizers from before the event.
    """
    observers = {site: MeanMagnitude(site.path, settings.granularity) for site in sites if site.prunable}
    with _observing("before", observers):
        run()
    for site, seen in observers.items():
        site.set_mask(magnitude_mask(seen.result(), sparsity))


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
        site.set_quantizer(_scale(seen.result()[None], bits, settings), bits)


def _scale(rows: Tensor, bits: int, settings: Settings) -> Tensor:
    """One scale for each row of values; ones where quantization is off."""
    if bits == FLOAT_BITS:
        return rows.new_ones(rows.shape[0])
    if settings.quantiles is not None:
        rows = clip_quantiles(rows, settings.quantiles)
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
