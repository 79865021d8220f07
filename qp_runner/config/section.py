"""The base of all parts of the configuration."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Factory = dict[str, Any]
"""A Hydra object: `_target_` names a callable, the other keys are its arguments."""


class Section(BaseModel):
    """A fixed set of keys: unknown keys are refused, and values are not converted between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
