"""Lazy modules of torch: until a first batch shows them their sizes there is nothing to start from or to compress."""

from collections.abc import Mapping
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from qp_runner.errors import ConfigError


def check_shapes(networks: Mapping[str, nn.Module]) -> None:
    """Raises ConfigError for networks, by name, that have a Parameter or buffer without a shape."""
    for name, network in networks.items():
        for path, tensor in chain(network.named_parameters(), network.named_buffers()):
            if is_lazy(tensor):
                value = f"{name}.{path}" if len(networks) > 1 else path
                allowed = "has no shape: give this lazy module its sizes, or pass a sample through it first"
                raise ConfigError("model.networks", value, allowed)
