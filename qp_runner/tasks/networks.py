"""Building a task's networks from their configuration."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from qp_runner.errors import ConfigError

OTHER_NAMES = {
    "classes": ("num_classes", "n_classes", "num_labels"),
    "in_channels": ("in_chans", "input_channels", "num_channels"),
}
"""What libraries call the arguments that tasks give to networks."""


def seeded(key: str, make: Callable[..., nn.Module], *, seed: int, **arguments: object) -> nn.Module:
    """The network, with initial weights that depend on the seed only. Does not change the global generators.

    Args:
        key: the configuration key that names the network, for errors.
        make: the network's factory.
        seed: of the run.
        arguments: of the task, in addition to the configured ones; see `understood`.

    Raises:
        ConfigError: arguments that the factory refuses.
    """
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU
        torch.default_generator.manual_seed(seed)
        try:
            return make(**understood(make, arguments))
        except ConfigError:  # already names the key
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(key, _name(make), str(error)) from error


def understood(make: Callable[..., object], arguments: Mapping[str, object]) -> dict[str, object]:
    """A task's arguments under the names that a factory has for them.

    Those of `OTHER_NAMES` are left out where the configuration gives them already, and where the factory has no name
    for them: whether the network fits the data is then seen when it is called. A factory that hands on any keyword
    (`**kwargs`, as those of torchvision do) is given the number of classes as `num_classes`.
    """
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return dict(arguments)
    configured: Mapping[str, Any] = getattr(make, "keywords", {})
    hands_on = any(each.kind == inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    found: dict[str, object] = {}
    for name, value in arguments.items():
        names = (name, *OTHER_NAMES.get(name, ()))
        known = next((each for each in names if each in parameters), None)
        if any(each in configured for each in names):
            continue
        if known is not None or name not in OTHER_NAMES:
            found[known or name] = value
        elif hands_on and name == "classes":
            found["num_classes"] = value
    return found


def _name(make: object) -> str:
    function = getattr(make, "func", make)  # unwraps a partial
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
