"""Building a task's networks from their configuration."""

from collections.abc import Callable

import torch
from torch import nn

from qp_runner.errors import ConfigError


def seeded(key: str, make: Callable[..., nn.Module], *, seed: int, **arguments: object) -> nn.Module:
    """The network, with initial weights that depend on the seed only. Does not change the global generators.

    Args:
        key: the configuration key that names the network, for errors.
        make: the network's factory.
        seed: of the run.
        arguments: of the task, in addition to the configured ones.

    Raises:
        ConfigError: arguments that the factory refuses.
    """
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU
        torch.default_generator.manual_seed(seed)
        try:
            return make(**arguments)
        except ConfigError:  # already names the key
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(key, _name(make), str(error)) from error


def _name(make: object) -> str:
    function = getattr(make, "func", make)  # unwraps a partial
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
