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
        given: the names of the networks that the task needs, and the arguments it adds to the configured ones (see
            `understood`).
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
                made[name] = factories[name](**understood(factories[name], arguments))
            except ConfigError:  # already names the key
                raise
            except (TypeError, ValueError, RuntimeError) as error:
                raise ConfigError(f"model.networks.{name}", _call(factories[name]), str(error)) from error
    return made


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


def _call(make: object) -> str:
    """A factory and its configured arguments, in words."""
    function = getattr(make, "func", make)  # unwraps a partial
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
