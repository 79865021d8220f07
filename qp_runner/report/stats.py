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
    """Statistics of n paired differences.

    Attributes:
        mean: NaN without pairs.
        interval: Student's t interval of the mean at CONFIDENCE; None below two pairs, or if all differences are equal,
            since a spread of 0 is not an estimate.
        p: two-sided p value of the paired t test; None without interval.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None = None
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 lies outside it."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def summarise(values: Sequence[float]) -> Summary:
    """Mean and spread of the finite values."""
    known = [value for value in values if math.isfinite(value)]
    mean = float(np.mean(known)) if known else math.nan
    return Summary(len(known), mean, float(np.std(known, ddof=1)) if len(known) > 1 else None)


def paired(differences: Sequence[float]) -> Paired:
    """The paired t interval of Student (1908) over differences of the same seeds under two conditions."""
    values = np.asarray(differences, dtype=float)
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    if n < 2 or values.std(ddof=1) <= 1e-9 * np.abs(values).max():  # equal up to rounding
        return Paired(n, mean)
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return Paired(n, mean, (float(low), float(high)), float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values (Holm 1979), in the given order."""
    ps = np.asarray(p_values, dtype=float)
    order = ps.argsort()
    adjusted = np.empty_like(ps)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(len(ps), 0, -1) * ps[order]))
    return [float(p) for p in adjusted]
