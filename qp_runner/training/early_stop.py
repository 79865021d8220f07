"""Ending a run before its time, once the metric on validation data no longer improves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qp_runner.metric import Metric


@dataclass(frozen=True)
class EarlyStop:
    """When a run ends early.

    Runs of several schedules that end early have trained and recovered for different times, so that their difference is
    no longer that of the schedules.

    Attributes:
        patience: measurements in a row without a better value.
        min_delta: by how much a value has to be better.
    """

    patience: int
    min_delta: float = 0.0

    def reached(
        self, history: Sequence[tuple[int, Mapping[str, float]]], metric: Metric, *, last_event: int | None
    ) -> bool:
        """Whether a run ends now.

        Args:
            history: what was recorded, by steps done.
            metric: of the task.
            last_event: the step before which the last event fires, from which on measurements count; None without any.
        """
        name, first = f"val/{metric.name}", 0 if last_event is None else last_event + 1
        values = [metric.sign * values[name] for step, values in history if name in values and step >= first]
        best, since = float("-inf"), 0
        for value in values:
            improved = value > best + self.min_delta
            best, since = (value, 0) if improved else (best, since + 1)
        return since >= self.patience
