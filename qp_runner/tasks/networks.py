"""Building a task's networks from their configuration."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from qp_runner.errors import ConfigError
from qp_runner.lazy import check_shapes

OTHER_NAMES = {
    "classes": ("num_classes", "n_classes", "num_labels"),
    "in_channels": ("in_chans", "input_channels", "num_channels"),
}
"""What libraries call the arguments that tasks give to networks."""

LIBRARIES = {"torchvision": {"num_classes"}, "timm": {"num_classes", "in_chans"}}
"""Of these arguments, what the functions of libraries take without naming it, as `**kwargs`."""


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
        ConfigError: networks of other names, arguments that a factory refuses, or a lazy module without a shape.
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
    check_shapes(made)
    return made


def understood(make: Callable[..., object], arguments: Mapping[str, object]) -> dict[str, object]:
    """A task's arguments under the names that a factory has for them.

    Those of `OTHER_NAMES` are left out where the configuration gives them already, and where the factory has no name
    for them: whether the network fits the data is then seen when it is called.
    """
    known = _names(getattr(make, "func", make))
    configured: Mapping[str, Any] = getattr(make, "keywords", {})
    found: dict[str, object] = {}
    for name, value in arguments.items():
        names = (name, *OTHER_NAMES.get(name, ()))
        if known is None or name not in OTHER_NAMES:
            found[name] = value
        elif configured.keys().isdisjoint(names):
            found |= dict.fromkeys([each for each in names if each in known][:1], value)
    return found


def _names(make: Callable[..., object]) -> set[str] | None:
    """The names of the arguments that a factory takes; None if it may take others. A class that hands on what it does
    not name takes what the class that it derives from takes.
    """
    names: set[str] = set()
    for each in inspect.getmro(make) if isinstance(make, type) else (make,):
        if isinstance(make, type) and "__init__" not in vars(each):
            continue
        try:
            parameters = inspect.signature(each).parameters
        except (TypeError, ValueError):
            return None
        names |= set(parameters)
        if not any(one.kind == inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            return names
    library = LIBRARIES.get(str(getattr(make, "__module__", "")).partition(".")[0])
    return None if library is None else names | library


def _call(make: object) -> str:
    """A factory and its configured arguments, in words."""
    function = getattr(make, "func", make)  # unwraps a partial
    given = ", ".join(f"{key}={value}" for key, value in getattr(make, "keywords", {}).items())
    return f"{getattr(function, '__name__', type(function).__name__)}({given})"
