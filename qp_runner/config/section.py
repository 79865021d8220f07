"""What all parts of the configuration have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Factory = dict[str, Any]
"""A Hydra object: `_target_` names a callable, the other keys are its arguments."""


class Section(BaseModel):
    """A closed group of keys: unknown ones are refused, values are not converted between kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
