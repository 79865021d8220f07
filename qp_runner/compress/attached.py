"""All sites of a run's networks, attached."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from qp_runner.compress.attach import Attachment, Counting, attach_weight, latent
from qp_runner.compress.candidates import parameters_behind
from qp_runner.compress.results import attach_activation, attach_results
from qp_runner.compress.selection import Selected
from qp_runner.compress.settings import Granularity
from qp_runner.compress.site import Site
from qp_runner.compress.sites import ActivationSite, WeightSite


class AttachedSites:
    """Makes sites of what was selected and attaches them.

    Args:
        networks: by name.
        selected: where the sites are.
        granularity: of activation masks.

    Attributes:
        weights: in module order.
        activations: outputs of modules in module order, then functions' results.
        attachments: each site at a module.
        counting: sites at calls, by network.
    """

    def __init__(self, networks: Mapping[str, nn.Module], selected: Selected, granularity: Granularity) -> None:
        self.networks = networks
        self.weights: list[WeightSite] = []
        self.attachments: list[Attachment] = []
        for location in selected.weights:
            site = WeightSite(location)
            self.weights.append(site)
            self.attachments += [attach_weight(module, name, site) for module, name in location.users]
        device = next((p.device for n in networks.values() for p in n.parameters()), torch.device("cpu"))
        places = [(location, ActivationSite(location, device, granularity)) for location in selected.activations]
        self.counting: list[Counting] = attach_results(networks, places)
        self.attachments += [attach_activation(*each) for each in places if each[0].call is None]
        self.activations: list[ActivationSite] = [site for _, site in places]

    @property
    def all(self) -> list[Site]:
        """All sites, weights first."""
        return [*self.weights, *self.activations]

    def latents(self) -> dict[WeightSite, Tensor]:
        """The latent weight of every weight site: a Parameter, or what parametrizations make of Parameters."""
        return {a.site: latent(a.module, a.name) for a in self.attachments if isinstance(a.site, WeightSite)}

    def plain(self) -> dict[WeightSite, Tensor]:
        """The latent weights that are Parameters themselves."""
        return {site: weight for site, weight in self.latents().items() if isinstance(weight, nn.Parameter)}

    def parameters(self) -> list[nn.Parameter]:
        """The Parameters behind weight sites, each once."""
        found: dict[int, nn.Parameter] = {}
        for a in self.attachments:
            if isinstance(a.site, WeightSite):
                found |= {id(parameter): parameter for parameter in parameters_behind(a.module, a.name)}
        return list(found.values())

    def modules(self) -> dict[str, nn.Module]:
        """The modules whose output is a site, by its path."""
        return {a.site.path: a.module for a in self.attachments if isinstance(a.site, ActivationSite)}

    def detach(self) -> None:
        """Detaches all sites. The networks compute with their latent weights again."""
        for attachment in self.attachments:
            attachment.remove()
        for counting in self.counting:
            counting.remove()
        self.attachments, self.counting = [], []
