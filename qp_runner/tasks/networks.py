"""Making a task's networks from what a configuration names."""

from collections.abc import Callable

import torch
from torch import nn

from qp_runner.errors import ConfigError


def seeded(key: str, make: Callable[..., nn.Module], *, seed: int, **arguments: object) -> nn.Module:
    """The network with initial weights that depend on the seed alone; the global generators stay as they were.

    Args:
        key: the configuration key that names the network, for errors.
        make: the network's factory.
        seed: of the run.
        arguments: what the task gives the factory beside what is configured.

    Raises:
        ConfigError: arguments that the factory refuses.
    """
    with torch.random.fork_rng(devices=[]):  # networks are made on the CPU, so its generator alone is drawn from
        torch.default_generator.manual_seed(seed)
        try:
            return make(**arguments)
        except ConfigError:  # says more than we could
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(key, _name(make), str(error)) from error


def _name(make: object) -> str:
    function = getattr(make, "func", make)  # what a partial calls
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
