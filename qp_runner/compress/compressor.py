"""Attaches sites to networks and changes them when a schedule's events fire (DESIGN §4)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn

from qp_runner.compress import attach
from qp_runner.compress.calibration import check_finite, choose_scale, clip_quantiles
from qp_runner.compress.fake_quantize import OFF_BITS
from qp_runner.compress.isolation import undisturbed
from qp_runner.compress.mask import magnitude_mask
from qp_runner.compress.observers import MeanMagnitude, Observer, Subsample
from qp_runner.compress.selection import SiteSelection, select
from qp_runner.compress.settings import Settings
from qp_runner.compress.sites import ActivationSite, Site, WeightSite
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Stage, Target

Run = Callable[[], None]


class Compressor(nn.Module):
    """All compression of a run. Its `state_dict` holds the whole state; the networks' Parameters stay their own.

    Attaching keeps every Parameter object, so optimizers built before or after are both valid, but a weight is then
    listed as `….parametrizations.weight.original`, behind its module's bias. Until its first event a site hands on the
    very tensor it was given.

    Masks are chosen anew at each prune event, from the latent weights and the network as it is then: an element pruned
    earlier may return. Scales are chosen at quantize events alone and stay frozen between them, also when a later
    event prunes.

    Attributes:
        networks: the networks by name. Held, not owned: they are no part of `state_dict()`, `to()` or `parameters()`.
    """

    networks: dict[str, nn.Module]

    def __init__(self, networks: Mapping[str, nn.Module], *, sites: SiteSelection, settings: Settings) -> None:
        super().__init__()
        object.__setattr__(self, "networks", dict(networks))
        self.settings = settings
        weights, activations = select(networks, sites)
        attached: list[attach.Attachment] = []
        by_parameter: dict[int, WeightSite] = {}  # tied weights are one site
        for place in weights:
            site = by_parameter.setdefault(id(attach.latent(place.module)), WeightSite(place))
            attached.append(attach.attach_weight(place, site))
        device = next((p.device for n in networks.values() for p in n.parameters()), torch.device("cpu"))
        for place in activations:
            attached.append(attach.attach_activation(place, ActivationSite(place, device)))
        self._attached = attached
        self._sites = nn.ModuleDict({_key(a.site): a.site for a in attached})

    def sites(self, target: Target) -> list[Site]:
        """The sites of a target, in module order."""
        kind = WeightSite if target is Target.WEIGHT else ActivationSite
        return [cast(Site, site) for site in self._sites.values() if isinstance(site, kind)]

    @property
    def static(self) -> bool:
        """Whether sites read their state from buffers alone, for steps that are captured or compiled once."""
        return any(site.static for site in self.sites(Target.WEIGHT) + self.sites(Target.ACTIVATION))

    @static.setter
    def static(self, value: bool) -> None:
        for site in self.sites(Target.WEIGHT) + self.sites(Target.ACTIVATION):
            site.static = value

    def check(self, stages: Iterable[Stage]) -> None:
        """Raises ConfigError if a stage compresses a target that has no site to compress."""
        for op, target in {fired for stage in stages for fired in stage.fires}:
            key = f"model.sites.{target.value}"
            if not self.sites(target):
                raise ConfigError(key, "[]", f"the schedule compresses {target.value}s, so this needs a glob")
            if op is Op.PRUNE and not any(site.prunable for site in self.sites(target)):
                raise ConfigError(
                    "model.sites.unpruned", "*", f"the schedule prunes {target.value}s, but all are listed here"
                )

    def enter(self, stage: Stage, *, run: Run) -> None:
        """Applies what fires at a stage's start, in one fixed order whatever the order in which events are written:
        weight masks, weight scales, activation masks, activation scales; each sees what was done before it.

        Args:
            stage: the stage that begins.
            run: passes the calibration batches through the networks; called once for each activation change.
        """
        with undisturbed(self.networks.values()):
            if (Op.PRUNE, Target.WEIGHT) in stage.fires:
                self._prune_weights(stage.weight.sparsity)
            if (Op.QUANTIZE, Target.WEIGHT) in stage.fires:
                self._quantize_weights(stage.weight.bits)
            if (Op.PRUNE, Target.ACTIVATION) in stage.fires:
                self._prune_activations(stage.activation.sparsity, run)
            if (Op.QUANTIZE, Target.ACTIVATION) in stage.fires:
                self._quantize_activations(stage.activation.bits, run)

    def _activations(self) -> list[ActivationSite]:
        return [site for site in self._sites.values() if isinstance(site, ActivationSite)]

    def _weights(self) -> list[tuple[WeightSite, Tensor]]:
        return [(a.site, attach.latent(a.module).detach()) for a in self._attached if isinstance(a.site, WeightSite)]

    def _prune_weights(self, sparsity: float) -> None:
        for site, weight in self._weights():
            if site.prunable:
                check_finite(weight, site.path)
                site.set_mask(magnitude_mask(weight.abs(), sparsity))

    def _quantize_weights(self, bits: int) -> None:
        for site, weight in self._weights():
            check_finite(weight, site.path)
            masked = weight * site.mask.to(weight.dtype)
            site.set_quantizer(self._scale(site.rows(masked), bits), bits)

    def _prune_activations(self, sparsity: float, run: Run) -> None:
        sites = [site for site in self._activations() if site.prunable]
        observers = {site: MeanMagnitude(site.path, self.settings.granularity) for site in sites}
        with _observing("before", observers):
            run()
        for site, seen in observers.items():
            site.set_mask(magnitude_mask(seen.result(), sparsity))

    def _quantize_activations(self, bits: int, run: Run) -> None:
        """All scales are chosen in one pass, from activations that are masked but nowhere quantized."""
        sites = self._activations()
        for site in sites:
            site.set_quantizer(site.scale, OFF_BITS)
        if bits == OFF_BITS:
            return
        observers = {site: Subsample(site.path, self.settings.sample_limit) for site in sites}
        with _observing("after", observers):
            run()
        for site, seen in observers.items():
            site.set_quantizer(self._scale(seen.result()[None], bits), bits)

    def _scale(self, rows: Tensor, bits: int) -> Tensor:
        """One scale for each row of values; ones where the bits mean off."""
        if bits == OFF_BITS:
            return rows.new_ones(rows.shape[0])
        if self.settings.quantiles is not None:
            rows = clip_quantiles(rows, self.settings.quantiles)
        return choose_scale(rows, bits=bits, kind=self.settings.scale)

    def detach(self) -> None:
        """Parts every site from its module. The networks compute with their latent weights again."""
        for attachment in self._attached:
            attachment.remove()
        self._attached = []

    def bake(self, network: nn.Module) -> nn.Module:
        """A plain copy of one of the networks that computes the same without the compressor; see `attach.bake`."""
        return attach.bake(network, self._attached)


@contextmanager
def _observing(where: Literal["before", "after"], observers: Mapping[ActivationSite, Observer]) -> Iterator[None]:
    """Shows observers what their sites take in (`before`) or hand on (`after`)."""
    for site, observer in observers.items():
        setattr(site, where, observer)
    try:
        yield
    finally:
        for site in observers:
            setattr(site, where, None)


def _key(site: Site) -> str:
    """A site's name in the state_dict; module names may hold no dots."""
    kind = Target.WEIGHT if isinstance(site, WeightSite) else Target.ACTIVATION
    return f"{kind.value}/{site.path.replace('.', '/')}"
