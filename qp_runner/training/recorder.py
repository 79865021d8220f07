"""What the trainer says to whoever keeps records; tracking implements it, tests can collect it in a list."""

from collections.abc import Mapping
from typing import Protocol


class Recorder(Protocol):
    """Takes numbers under their names, at a count of training steps done."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records values; may buffer, must not block a training step for long."""
