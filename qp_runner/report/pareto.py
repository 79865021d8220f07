"""The Pareto front of points with a cost and a utility."""

import math
from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, utility), whether it is on the Pareto front: lower cost and higher utility are better.

    A point is dominated by one that is no worse in both and better in one; equal points do not dominate each other. A
    point with a coordinate that is not finite is never on the front and dominates nothing.
    """
    known = [math.isfinite(cost) and math.isfinite(utility) for cost, utility in points]
    order = sorted((index for index, ok in enumerate(known) if ok), key=lambda i: (points[i][0], -points[i][1]))
    on_front = [False] * len(points)
    best_cost, best = math.nan, -math.inf
    for index in order:  # by rising cost: only points before it can dominate it
        cost, utility = points[index]
        if utility > best:
            best_cost, best = cost, utility
            on_front[index] = True
        elif utility == best and cost == best_cost:
            on_front[index] = True
    return on_front
