"""Objects from the parts of a configuration that name a callable; nested sections as flat keys."""

from collections.abc import Callable, Mapping
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

from qp_runner.config import Factory
from qp_runner.errors import ConfigError


def instantiate(key: str, factory: Factory) -> Any:
    """Hydra's instantiate; what goes wrong in it becomes a ConfigError of that key."""
    if "_target_" not in factory:
        raise ConfigError(key, factory, "needs a _target_: the dotted name of a callable")
    try:
        return hydra.utils.instantiate(factory, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from error
        raise ConfigError(key, factory["_target_"], _reason(error)) from error


def call(key: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a configured factory; arguments that it refuses become a ConfigError of that key."""
    try:
        return function(*args, **kwargs)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(key, _name(function), str(error)) from error


def _name(function: object) -> str:
    target = getattr(function, "func", function)
    return str(getattr(target, "__qualname__", target))


def _reason(error: Exception) -> str:
    cause: BaseException = error.__cause__ or error
    return " ".join(str(cause).split())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping as dotted keys and texts: `{"a": {"b": 1}}` is `{"a.b": "1"}`."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = str(value)
    return flat
