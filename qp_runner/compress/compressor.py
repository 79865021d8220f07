"""Attaches sites to networks and changes them when a schedule's events fire."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qp_runner.compress import events, rehearsal
from qp_runner.compress.attach import Attachment, attach_weight, latent
from qp_runner.compress.bake import bake
from qp_runner.compress.bank import WeightBank
from qp_runner.compress.calls import prefixes
from qp_runner.compress.candidates import parameters_behind
from qp_runner.compress.checks import check_batch, check_used
from qp_runner.compress.coverage import Coverage, coverage
from qp_runner.compress.events import Run
from qp_runner.compress.graph import LATENT, Graph, trace
from qp_runner.compress.isolation import undisturbed
from qp_runner.compress.places import Places, places
from qp_runner.compress.results import attach_activation, attach_results
from qp_runner.compress.selection import SiteSelection, select
from qp_runner.compress.settings import Settings
from qp_runner.compress.site import Site, switched_off
from qp_runner.compress.sites import ActivationSite, WeightSite, serving
from qp_runner.compress.summary import SiteRecord, counts, record
from qp_runner.compress.survey import survey
from qp_runner.errors import ConfigError
from qp_runner.schedule import FLOAT_BITS, Op, Stage, Target, TargetState, total_steps


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
        self.settings = settings
        surveyed = None
        if run is not None:
            with rehearsal.norms_named(networks):
                surveyed = survey(networks, run, pair)
        selected = select(networks, sites, surveyed)
        self.skipped = selected.skipped
        self._attached: list[Attachment] = []
        for location in selected.weights:
            site = WeightSite(location)
            self._attached += [attach_weight(module, name, site) for module, name in location.users]
        device = next((p.device for n in networks.values() for p in n.parameters()), torch.device("cpu"))
        activations = [
            (location, ActivationSite(location, device, settings.granularity)) for location in selected.activations
        ]
        self._counted = attach_results(networks, activations)
        self._attached += [attach_activation(*each) for each in activations if each[0].call is None]
        self.graph: Graph | None = None
        self._faults: list[rehearsal.Fault] = []
        self._bank: WeightBank | None = None
        self._sites = nn.ModuleDict({_key(a.site): a.site for a in self._attached})
        self._sites.update({_key(site): site for _, site in activations})

    def sites(self, target: Target) -> list[Site]:
        """The sites of a target, in module order."""
        weights = target == Target.WEIGHT
        return [site for site in self._all() if isinstance(site, WeightSite) == weights]

    def latents(self) -> dict[WeightSite, Tensor]:
        """The latent weight of every weight site: a Parameter, or what parametrizations make of Parameters."""
        return {a.site: latent(a.module, a.name) for a in self._attached if isinstance(a.site, WeightSite)}

    def parameter_count(self) -> int:
        """Elements of all parameters of the networks, sites or not."""
        return sum(p.numel() for p in {p for network in self.networks.values() for p in network.parameters()})

    def bank(self) -> WeightBank | None:
        """All weight sites in one, for captured or compiled steps; every later event updates it."""
        if self._bank is None and self._plain():
            self._bank = WeightBank(self._plain())
        return self._bank

    def _plain(self) -> dict[WeightSite, Tensor]:
        """The latent weights that are Parameters themselves."""
        return {site: weight for site, weight in self.latents().items() if isinstance(weight, nn.Parameter)}

    def parameters_in_sites(self) -> list[nn.Parameter]:
        """The Parameters behind weight sites, each once."""
        found: dict[int, nn.Parameter] = {}
        for a in self._attached:
            if isinstance(a.site, WeightSite):
                found |= {id(parameter): parameter for parameter in parameters_behind(a.module, a.name)}
        return list(found.values())

    @property
    def static(self) -> bool:
        """Whether sites read their state from buffers only, for steps that are captured or compiled once."""
        return any(site.static for site in self._all())

    @static.setter
    def static(self, value: bool) -> None:
        for site in self._all():
            site.static = value

    def check(self, stages: Iterable[Stage]) -> None:
        """Raises ConfigError if a stage compresses a target that has no site to compress, or has a fault that `trace`
        found.
        """
        for op, target in sorted({fired for stage in stages for fired in stage.fires}):
            sites = self.sites(target)
            for fault in self._faults:
                if (fault.op, fault.target) == (op, target):
                    raise fault.error
            if not sites:
                frozen = "; its globs match frozen ones only" if target == Target.WEIGHT and self._skips_frozen else ""
                allowed = f"needs a glob, the schedule compresses {target}s{frozen}"
                raise ConfigError(f"model.sites.{target}", "[]", allowed)
            if op == Op.PRUNE and not any(site.prunable for site in sites):
                raise ConfigError(
                    "model.sites.unpruned", "*", f"must leave a {target} out, the schedule prunes {target}s"
                )

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
        activations = {site.path: site for site in self._activations()}

        def seen(path: str, output: Tensor) -> None:
            site = activations[path]
            self._faults += rehearsal.check_output(site, output)
            batch = output.movedim(site.batch_axis, 0)
            site.allocate(batch[0] if len(batch) else batch.new_empty(batch.shape[1:]))  # a detector may find nothing

        self._faults = []
        self.graph = graph = self._traced(run, seen)
        check_used(graph, weights=[site.path for site in self._plain()], activations=list(activations))
        self._faults += rehearsal.check_calls(self._activations(), graph.calls)
        with self._copies_served():
            rehearsal.in_training_mode(self.networks.values(), run)
        if pair is not None:
            axes = {path: site.batch_axis for path, site in activations.items()}
            check_batch(graph, self._traced(pair, lambda _path, _output: None), axes)
        return graph

    def _traced(self, run: Run, seen: Callable[[str, Tensor], None]) -> Graph:
        """The graph of a pass in which every weight site returns a copy: whoever reads the latent weight is found."""
        modules = {a.site.path: a.module for a in self._attached if isinstance(a.site, ActivationSite)}
        latents = self._plain()
        parameters: dict[str, Tensor] = {
            f"parameter {prefix}{name}": parameter
            for prefix, network in prefixes(self.networks)
            for name, parameter in network.named_parameters()
        }
        parameters |= {LATENT + site.path: latent for site, latent in latents.items()}
        with self._copies_served() as copies, rehearsal.norms_named(self.networks):
            return trace(
                self.networks,
                modules,
                parameters=parameters | copies,
                run=run,
                seen=seen,
                calls=[each.calls for each in self._counted],
            )

    @contextmanager
    def _copies_served(self) -> Iterator[dict[str, Tensor]]:
        """Inside, networks are undisturbed, sites are off, and weight sites return copies, given by path. A write to a
        copy is noted as a fault.
        """
        latents = self._plain()
        copies = {site: latent.detach().clone() for site, latent in latents.items()}
        by_path = {site.path: each for site, each in copies.items()}
        writes = rehearsal.Writes(by_path)
        with undisturbed(self.networks.values()), switched_off(self._all()), serving(copies, latents=latents), writes:
            yield by_path
        self._faults += writes.faults()

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
            events.prune_activations(self._activations(), activation.sparsity, self.settings, isolated, observe=observe)
        if (Op.QUANTIZE, Target.ACTIVATION) in stage.fires:
            events.quantize_activations(self._activations(), activation.bits, self.settings, isolated)
        self.refresh_bank()

    def summary(self) -> list[SiteRecord]:
        """A record for every site, weights first."""
        latents = dict[Site, Tensor](self.latents().items())
        return [record(site, latent=latents.get(site), graph=self.graph) for site in self._all()]

    def sparsity(self, target: Target) -> float:
        """The measured share of pruned elements over the prunable sites of a target."""
        pairs = [counts(site, self.graph) for site in self.sites(target) if site.prunable]
        return sum(zeros for _, zeros in pairs) / max(sum(elements or 0 for elements, _ in pairs), 1)

    def bits(self, target: Target) -> int:
        """The bits of a target's sites, but for those with bits of their own; 32 while they are not quantized."""
        sites = self.sites(target)
        usual = [site for site in sites if site.own_bits is None] or sites
        return max((int(site.bits) for site in usual), default=FLOAT_BITS)

    def unreached(self) -> list[str]:
        """Sites at functions' calls that the last forward pass did not reach, as after a compiler's rewriting."""
        return [path for each in self._counted for path in each.calls.missed()]

    def state(self, target: Target) -> TargetState:
        """Measured sparsity and bits of a target."""
        return TargetState(self.sparsity(target), self.bits(target))

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in `nn.Module`; the bank is updated too."""
        result = super().load_state_dict(*args, **kwargs)
        self.refresh_bank()
        return result

    def detach(self) -> None:
        """Detaches all sites. The networks compute with their latent weights again."""
        for attachment in self._attached:
            attachment.remove()
        for counting in self._counted:
            counting.remove()
        self._attached, self._counted = [], []

    def bake(self, network: nn.Module) -> nn.Module:
        """A plain copy of one of the networks that computes the same without the compressor (see `bake.bake`)."""
        return bake(network, self._attached, self._counted)

    def places(self, network: nn.Module) -> Places:
        """Where the sites of one of the networks are."""
        return places(network, self._attached, self._counted)

    def refresh_bank(self) -> None:
        """Brings the bank up to date, after sites were changed without an event."""
        if self._bank is not None:
            self._bank.refresh()

    def _all(self) -> list[Site]:
        return [site for site in self._sites.values() if isinstance(site, Site)]

    def _activations(self) -> list[ActivationSite]:
        return [site for site in self._sites.values() if isinstance(site, ActivationSite)]


def _key(site: Site) -> str:
    """A site's name in the state_dict; module names may not contain dots."""
    kind = Target.WEIGHT if isinstance(site, WeightSite) else Target.ACTIVATION
    return f"{kind}/{site.path.replace('.', '/')}"
