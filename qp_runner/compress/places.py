"""Where the sites of one network are, by the names that a plain copy of it has too."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from qp_runner.compress.attach import Attachment, Counting
from qp_runner.compress.results import CallResult
from qp_runner.compress.sites import ActivationSite, WeightSite


@dataclass(frozen=True)
class CallPlace:
    """A site at one of the calls of a name.

    Attributes:
        name: of the calls, as `calls.Calls` counts them, without the network's own name before it.
        number: which of them; the last one stands for all that follow.
        count: how many calls have the name.
    """

    name: str
    number: int
    count: int


@dataclass(frozen=True)
class Places:
    """A network's sites, active or not.

    Attributes:
        weights: by the name in the baked network's state_dict; of a shared weight the first name.
        outputs: by the path of the module whose output it is.
        calls: those at calls.
    """

    weights: dict[str, WeightSite]
    outputs: dict[str, ActivationSite]
    calls: dict[CallPlace, ActivationSite]


def places(network: nn.Module, attachments: Iterable[Attachment], counted: Iterable[Counting] = ()) -> Places:
    """Where the sites of a network are; what is attached to other networks is left out."""
    paths = {id(module): path for path, module in network.named_modules()}
    found = Places({}, {}, {})
    for each in attachments:
        path = paths.get(id(each.module))
        if path is None:
            continue
        if isinstance(each.site, WeightSite) and each.site not in found.weights.values():
            found.weights[f"{path}.{each.name}" if path else each.name] = each.site
        elif isinstance(each.site, ActivationSite):
            found.outputs[path] = each.site
    for counting in counted:
        if counting.network is network:
            for name, hands in counting.calls.sites.items():
                for number, hand in enumerate(hands):
                    if isinstance(hand, CallResult) and isinstance(hand.site, ActivationSite):
                        place = CallPlace(name.removeprefix(counting.calls.prefix), number, len(hands))
                        found.calls[place] = hand.site
    return found
