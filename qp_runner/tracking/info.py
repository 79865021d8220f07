"""What a run says of itself before it starts, and how it can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RunInfo:
    """A run's name, the experiment it belongs to, and what is known of it before it starts.

    Attributes:
        name: how a person tells the run from its neighbours, e.g. `p_q_wf · seed 0`.
        experiment: the group of comparable runs it belongs to: the task's name.
        tags: what runs are chosen and grouped by.
        params: the resolved configuration, flattened: dotted key -> value as text.
    """

    name: str
    experiment: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
