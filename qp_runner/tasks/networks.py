"""Building a task's networks from their configuration."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from qp_runner.errors import ConfigError


def build_networks(
    factories: Mapping[str, Callable[..., nn.Module]],
    given: Mapping[str, Mapping[str, int]],
    *,
    task: str,
    seed: int,
) -> dict[str, nn.Module]:
    """A task's networks by name. Does not change the global generators.

    Args:
        factories: the configured networks.
        given: the names of the networks that the task needs, and the arguments it adds to the configured ones.
        task: its name, for errors.
        seed: of the run. Initial weights depend on it and on the place of a network in `given` only.

    Raises:
        ConfigError: networks of other names, or arguments that a factory refuses.
    """
    if factories.keys() != given.keys():
        count = "one network, named" if len(given) == 1 else "networks named"
        raise ConfigError("model.networks", list(factories), f"{task} takes {count} {', '.join(given)}")
    made = {}
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU
        for number, (name, arguments) in enumerate(given.items()):
            torch.default_generator.manual_seed(seed + number)
            try:
                made[name] = factories[name](**arguments)
            except ConfigError:  # already names the key
                raise
            except (TypeError, ValueError, RuntimeError) as error:
                raise ConfigError(f"model.networks.{name}", _call(factories[name]), str(error)) from error
    return made


def _call(make: object) -> str:
    """A factory and its configured arguments, in words."""
    function = getattr(make, "func", make)  # unwraps a partial
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
