"""A task's metric."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What a task is judged by. `unit` is `%`, `dB`, or empty."""

    name: str
    higher_is_better: bool
    unit: str = ""

    @property
    def sign(self) -> int:
        """1, or −1 where lower is better: turns a difference into an advantage."""
        return 1 if self.higher_is_better else -1

    def utility(self, value: float) -> float:
        """What performance density counts: the metric where higher is better, 1/metric where lower is better."""
        return value if self.higher_is_better else 1 / value
