"""What the trainer says to whoever keeps records; tracking implements it, tests can collect it in a list."""

from collections.abc import Mapping
from typing import Protocol


class Recorder(Protocol):
    """Takes numbers under their names, at a count of training steps done."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records values; may buffer, must not block a training step for long."""


class History:
    """Hands everything on, and remembers it: a run that starts from here can give a whole record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.entries: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records values."""
        self.entries.append((step, {name: float(value) for name, value in values.items()}))
        self._recorder.metrics(values, step=step)
