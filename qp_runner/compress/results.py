"""Activation sites attached to networks: by hooks of modules, and by the networks' `Calls`."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from qp_runner.compress.attach import Attachment, Counting, Reference, attach_calls
from qp_runner.compress.calls import Calls, prefixes
from qp_runner.compress.location import SiteLocation
from qp_runner.compress.sites import ActivationSite


class OutputHook(Reference):
    """An activation site as a forward hook."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The site's value of the module's output, or None to leave it as it is."""
        return cast(ActivationSite, self.site).hook(module, args, output)


class CallResult(Reference):
    """An activation site as what `Calls` does with a result."""

    def __call__(self, result: Any) -> Any:
        """The site's value of the result."""
        value = cast(ActivationSite, self.site).hook(None, (), result)
        return result if value is None else value


def attach_activation(location: SiteLocation, site: ActivationSite) -> Attachment:
    """Makes the module return the site's value of its output."""
    handle = location.module.register_forward_hook(OutputHook(site))
    return Attachment(site, location.module, handle=handle)


def attach_results(
    networks: Mapping[str, nn.Module], sites: Sequence[tuple[SiteLocation, ActivationSite]]
) -> list[Counting]:
    """Makes networks hand the results of calls to their sites; those of modules called once have hooks instead."""
    attached = []
    for prefix, network in prefixes(networks):
        hands: dict[str, list[CallResult | None]] = {}
        for location, site in sites:
            if location.call is not None and location.path.startswith(prefix):
                name, number, count = location.call
                hands.setdefault(name, [None] * count)[number] = CallResult(site)
        if hands:
            attached.append(attach_calls(network, Calls(hands, prefix=prefix)))
    return attached
