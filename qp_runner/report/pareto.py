"""The Pareto front of points with a cost and a utility."""

import math
from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, utility), whether it is on the Pareto front: lower cost and higher utility are better.

    A point is dominated by one that is no worse in both and better in one; equal points do not dominate each other. A
    point with a coordinate that is not finite is never on the front and dominates nothing.
    """
    known = {point for point in points if all(map(math.isfinite, point))}
    best = {
        (cost, utility)
        for cost, utility in known
        if not any(c <= cost and u >= utility and (c, u) != (cost, utility) for c, u in known)
    }
    return [point in best for point in points]
