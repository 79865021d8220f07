"""How shares are said: in the report, in tables of sites, in warnings."""

import math


def percent(share: float) -> str:
    """`50 %`. Only all of it is 100 %; what is not known is a dash."""
    if not math.isfinite(share):
        return "–"
    return f"{min(100 * share, 99.9):.3g} %" if share < 1 else "100 %"


def in_sites(weight: float, activation: float) -> str:
    """How much of a network its sites hold: `100 % of the matrix parameters, 97 % of the activations in memory`."""
    return f"{percent(weight)} of the matrix parameters, {percent(activation)} of the activations in memory"
