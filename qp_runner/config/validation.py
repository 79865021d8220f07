"""Checks a configuration before anything is built; an error names one key, in one line."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qp_runner.config.schema import Config
from qp_runner.errors import ConfigError


def validate(config: DictConfig | Mapping[str, Any]) -> Config:
    """A composed configuration as typed sections; raises ConfigError for the first bad value."""
    try:
        plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else dict(config)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error.full_key or "config"), "?", str(error.msg or error).splitlines()[0]) from error
    try:
        checked = Config.model_validate(plain)
    except ValidationError as error:
        raise _one_line(error.errors()[0]) from error
    checked.events()
    checked.model.check()
    return checked


def _one_line(error: ErrorDetails) -> ConfigError:
    """A pydantic error as key, value and what is allowed."""
    key = ".".join(str(part) for part in error["loc"]) or "config"
    value: object = error["input"]
    if error["type"] == "extra_forbidden":
        allowed = f"unknown key; {_siblings(error['loc'])}"
    elif error["type"] == "missing":
        key, value, allowed = key, "(missing)", "a value is needed"
    else:
        allowed = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return ConfigError(key, value, allowed)


def _siblings(loc: tuple[int | str, ...]) -> str:
    kind: Any = Config
    for part in loc[:-1]:
        kind = _inside(kind, str(part))
    names = list(_fields(kind))
    close = difflib.get_close_matches(str(loc[-1]), names, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(names)}"


def _inside(kind: Any, key: str) -> Any:
    """The type below a key of a section, or of a mapping of sections."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    field = _fields(kind).get(key)
    return field.annotation if field else None


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a section, optional or not."""
    return next((each.model_fields for each in (kind, *get_args(kind)) if hasattr(each, "model_fields")), {})
