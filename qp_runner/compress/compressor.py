"""Attaches sites to networks and changes them when a schedule's events fire."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qp_runner.compress import events, rehearsal, unchanged
from qp_runner.compress.attached import AttachedSites
from qp_runner.compress.bake import bake
from qp_runner.compress.bank import WeightBank
from qp_runner.compress.coverage import Coverage, coverage
from qp_runner.compress.events import Run
from qp_runner.compress.graph import Graph
from qp_runner.compress.isolation import undisturbed
from qp_runner.compress.places import Places, places
from qp_runner.compress.rehearsal import Fault
from qp_runner.compress.selection import SiteSelection, select
from qp_runner.compress.settings import Settings
from qp_runner.compress.site import Site
from qp_runner.compress.sites import WeightSite
from qp_runner.compress.summary import SiteRecord, has_effect, record, state
from qp_runner.compress.survey import survey
from qp_runner.compress.tracing import trace_sites
from qp_runner.errors import ConfigError
from qp_runner.lazy import check_shapes
from qp_runner.schedule import Op, Stage, Target, TargetState, total_steps


class Compressor(nn.Module):
    """All compression of a run. Its `state_dict` holds all masks and scales; the networks keep their Parameters.

    Attaching keeps every Parameter, its name and its place, so optimizers may be built and plain checkpoints loaded
    before or after. Until its first event a site returns its very input. How copies of a network behave: see `attach`.

    Each prune event computes new masks from the weights and the network at that time (see `enter`). Scales are chosen
    at quantize events only; a later event that prunes does not change them.

    Args:
        networks: by name.
        sites: which of their tensors are compressed; by default all, and all but the ends are pruned.
        settings: how.
        run: a forward pass of one sample. Needed for sites that are not the outputs of modules, and for sites that are
            chosen automatically; without it, all calls of a module are one site.
        pair: one of two samples; shows where the batch is, and whether training makes other calls than evaluation.

    Attributes:
        networks: the networks by name. Not owned: `state_dict()`, `to()` and `parameters()` leave them out.
        skipped: what was asked for but is no site, with the reason.
    """

    networks: dict[str, nn.Module]

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        sites: SiteSelection = SiteSelection(unpruned=None),  # noqa: B008 - it is immutable
        settings: Settings = Settings(),  # noqa: B008
        run: Run | None = None,
        pair: Run | None = None,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "networks", dict(networks))
        check_shapes(networks)
        self.settings, self._selection = settings, sites
        surveyed, before = None, list[Tensor]()
        if run is not None:
            with rehearsal.norms_named(networks):
                surveyed = survey(networks, run, pair)
            before = unchanged.outputs(networks.values(), run)
        selected = select(networks, sites, surveyed)
        self.skipped = selected.skipped
        self._attached = AttachedSites(self.networks, selected, settings.granularity)
        self._sites = nn.ModuleDict({_key(site): site for site in self._attached.all})
        self.graph: Graph | None = None
        self._faults: list[Fault] = []
        self._bank: WeightBank | None = None
        if run is not None:
            unchanged.check_unchanged(networks, run, before, self._attached.all)

    def sites(self, target: Target) -> list[Site]:
        """The sites of a target, in module order."""
        return list(self._attached.weights if target == Target.WEIGHT else self._attached.activations)

    def latents(self) -> dict[WeightSite, Tensor]:
        """The latent weight of every weight site: a Parameter, or what parametrizations make of Parameters."""
        return self._attached.latents()

    def parameter_count(self) -> int:
        """Elements of all parameters of the networks, sites or not."""
        return sum(p.numel() for p in {p for network in self.networks.values() for p in network.parameters()})

    def bank(self) -> WeightBank | None:
        """All weight sites in one, for captured or compiled steps; every later event updates it."""
        if self._bank is None and (plain := self._attached.plain()):
            self._bank = WeightBank(plain)
        return self._bank

    def parameters_in_sites(self) -> list[nn.Parameter]:
        """The Parameters behind weight sites, each once."""
        return self._attached.parameters()

    @property
    def static(self) -> bool:
        """Whether sites read their state from buffers only, for steps that are captured or compiled once."""
        return any(site.static for site in self._attached.all)

    @static.setter
    def static(self, value: bool) -> None:
        for site in self._attached.all:
            site.static = value

    def check(self, stages: Iterable[Stage]) -> None:
        """Raises ConfigError if a stage compresses a target that has no site to compress, or has a fault that `trace`
        found.
        """
        for op, target in sorted({fired for stage in stages for fired in stage.fires}):
            sites = [site for site in self.sites(target) if has_effect(site, self.graph)]
            for fault in self._faults:
                if (fault.op, fault.target) == (op, target):
                    raise fault.error
            if not sites:
                frozen = "; its globs match frozen ones only" if target == Target.WEIGHT and self._skips_frozen else ""
                given = self._selection.weight if target == Target.WEIGHT else self._selection.activation
                allowed = f"finds none, but the schedule compresses {target}s{frozen}"
                raise ConfigError(f"model.sites.{target}", _written(given), allowed)
            if op == Op.PRUNE and not any(site.prunable for site in sites):
                unpruned = self._selection.unpruned
                ends = " (auto: the first and the last layer)" if unpruned is None else ""
                allowed = f"leaves no {target} to prune{ends}, but the schedule prunes {target}s"
                raise ConfigError("model.sites.unpruned", _written(unpruned), allowed)

    @property
    def _skips_frozen(self) -> bool:
        return any(each.reason == "frozen" for each in self.skipped)

    def trace(self, run: Run, *, pair: Run | None = None) -> Graph:
        """Records what the networks compute in `run`, a forward pass of one sample.

        Activation masks get their final shape, so that all later events change buffers in place.

        Args:
            run: the forward pass.
            pair: one of two samples of the same shape, if there is one; shows where the batch is.

        Raises:
            ConfigError: a site that takes no part in the pass, a weight that is also used uncompressed, an activation
                whose batch is not dimension 0, or that has no batch or no elements. What only some events would run
                into is raised by `check`.
        """
        self.graph, self._faults = trace_sites(self._attached, run, pair=pair)
        return self.graph

    def coverage(self) -> Coverage:
        """The share of the networks that is in sites. RuntimeError without an earlier `trace`."""
        if self.graph is None:
            raise RuntimeError("call compressor.trace(run) with one sample before asking for its coverage")
        reasons = {each.path: each.reason for each in self.skipped}
        return coverage(self.networks, set(map(id, self.parameters_in_sites())), self.graph, reasons)

    def enter_due(self, stages: Sequence[Stage], step: int, *, run: Run) -> bool:
        """Applies what fires before a training step, or (`step` is their number) after the last one; see `enter`.

        Args:
            stages: of the whole training, from `Schedule.compile`.
            step: counted from 0.
            run: passes the calibration batches through the networks.

        Returns whether a stage begins there.
        """
        due = [stage for stage in stages if stage.first == step]
        for stage in due:
            self.enter(stage, run=run, after_training=step == total_steps(stages))
        return bool(due)

    @torch.no_grad()
    def enter(self, stage: Stage, *, run: Run, after_training: bool = False) -> None:
        """Applies what fires at a stage's start, always in this order: weight masks, weight scales, activation masks,
        activation scales. Each sees the ones before it.

        What pruning ranks depends on whether training goes on. While it does, these are the latent weights, and
        activations before their site: an element pruned earlier may return. After training a network is what it
        computes, so these are the values Q(M ⊙ w) and Q(M ⊙ x).

        Batch-norm statistics, modes of modules and the global random state do not change.

        Args:
            stage: the stage that begins.
            run: passes the calibration batches through the networks; called once for each activation change.
            after_training: whether no step follows, whatever the stages.

        Raises:
            ConfigError: a site's module does not return a tensor, is never called, or has samples of several shapes.
            CalibrationError: a value is not finite.
        """

        def isolated() -> None:
            with undisturbed(self.networks.values()):
                run()

        weight, activation = stage.weight, stage.activation
        if (Op.PRUNE, Target.WEIGHT) in stage.fires:
            events.prune_weights(self.latents(), weight.sparsity, computed=after_training)
        if (Op.QUANTIZE, Target.WEIGHT) in stage.fires:
            events.quantize_weights(self.latents(), weight.bits, self.settings)
        if (Op.PRUNE, Target.ACTIVATION) in stage.fires:
            observe: Literal["before", "after"] = "after" if after_training else "before"
            events.prune_activations(
                self._attached.activations, activation.sparsity, self.settings, isolated, observe=observe
            )
        if (Op.QUANTIZE, Target.ACTIVATION) in stage.fires:
            events.quantize_activations(self._attached.activations, activation.bits, self.settings, isolated)
        self.refresh_bank()

    def summary(self) -> list[SiteRecord]:
        """A record for every site, weights first."""
        latents = dict[Site, Tensor](self.latents().items())
        return [record(site, latent=latents.get(site), graph=self.graph) for site in self._attached.all]

    def sparsity(self, target: Target) -> float:
        """The measured share of pruned elements over the prunable sites of a target that have an effect."""
        return self.state(target).sparsity

    def bits(self, target: Target) -> int:
        """The bits of a target's sites, but for those with bits of their own; 32 while they are not quantized."""
        return self.state(target).bits

    def unreached(self) -> list[str]:
        """Sites at functions' calls that the last forward pass did not reach, as after a compiler's rewriting."""
        return [path for each in self._attached.counting for path in each.calls.missed()]

    def state(self, target: Target) -> TargetState:
        """Measured sparsity and bits of a target: see `sparsity` and `bits`."""
        return state(self.sites(target), self.graph)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in `nn.Module`; the bank is updated too."""
        result = super().load_state_dict(*args, **kwargs)
        self.refresh_bank()
        return result

    def detach(self) -> None:
        """Detaches all sites. The networks compute with their latent weights again."""
        self._attached.detach()

    def bake(self, network: nn.Module) -> nn.Module:
        """A plain copy of one of the networks that computes the same without the compressor (see `bake.bake`)."""
        return bake(network, self._attached.attachments, self._attached.counting)

    def places(self, network: nn.Module) -> Places:
        """Where the sites of one of the networks are."""
        return places(network, self._attached.attachments, self._attached.counting)

    def refresh_bank(self) -> None:
        """Brings the bank up to date, after sites were changed without an event."""
        if self._bank is not None:
            self._bank.refresh()


def _written(globs: Sequence[str] | None) -> object:
    """Globs as in a configuration."""
    return "auto" if globs is None else list(globs)


def _key(site: Site) -> str:
    """A site's name in the state_dict; module names may not contain dots."""
    kind = Target.WEIGHT if isinstance(site, WeightSite) else Target.ACTIVATION
    return f"{kind}/{site.path.replace('.', '/')}"
