"""Statistics over seeds: mean and spread, paired differences with an interval, multiple comparisons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """n values: their mean, and their sample standard deviation (n - 1), None for a single value."""

    n: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class Paired:
    """Paired differences and their statistics.

    Attributes:
        n: pairs.
        mean: of the differences; NaN without pairs.
        std: sample standard deviation of the differences; None below two pairs.
        low, high: Student's t interval of the mean at CONFIDENCE; None below two pairs, or if all differences are
            equal: a spread of 0 is not an estimate.
        p: two-sided p value of the paired t test; None without interval.
    """

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether n and the spread allow an interval."""
        return self.low is not None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 lies outside it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def summarise(values: Sequence[float]) -> Summary:
    """Mean and spread of the finite values."""
    known = np.asarray([value for value in values if math.isfinite(value)], dtype=float)
    if known.size == 0:
        return Summary(0, math.nan, None)
    return Summary(known.size, float(known.mean()), float(known.std(ddof=1)) if known.size > 1 else None)


def paired(differences: Sequence[float]) -> Paired:
    """The paired t interval of Student (1908) over differences of the same seeds under two conditions."""
    known = np.asarray(differences, dtype=float)
    if known.size == 0:
        return Paired(0, math.nan)
    mean = float(known.mean())
    if known.size == 1:
        return Paired(1, mean)
    std = float(known.std(ddof=1))
    if std <= 1e-9 * max(1e-12, float(np.abs(known).max())):  # equal up to rounding
        return Paired(known.size, mean, 0.0)
    error = std / math.sqrt(known.size)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, known.size - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, known.size - 1))
    return Paired(known.size, mean, std, mean - half, mean + half, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted
