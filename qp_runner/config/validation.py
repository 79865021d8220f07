"""Checks a configuration before anything is built; an error names one key, in one line."""

import difflib
import re
from collections.abc import Mapping, Sequence
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
        raise _one_line(error.errors(), plain) from error
    checked.events()
    checked.model.check()
    return checked


def _one_line(errors: Sequence[ErrorDetails], given: object) -> ConfigError:
    """The first of pydantic's errors as key, value and what is allowed; where several types are, each has an error."""
    error, key = errors[0], _key(errors[0], given)
    value: object = error["input"]
    if error["type"] == "extra_forbidden":
        allowed = f"unknown key; {_siblings(error['loc'])}"
    elif error["type"] == "missing":
        key, value, allowed = key, "(missing)", "a value is needed"
    else:
        said = dict.fromkeys(_said(each) for each in errors if _key(each, given) == key)
        allowed = " or ".join(said).replace(" or should be ", " or ")
    return ConfigError(key, value, allowed)


def _key(error: ErrorDetails, given: object) -> str:
    """The dotted key of what was given, without the names that pydantic has for the types of a value of several."""
    parts, here = [], given
    for part in error["loc"]:
        inside = isinstance(here, Mapping) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if inside:
            here = here[part]  # type: ignore[index]
        if inside or error["type"] == "missing":
            parts.append(str(part))
    return ".".join(parts) or "config"


def _said(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return re.sub(r" or instance of \w+", "", text)


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
