"""Choosing a quantizer's scale from data, when its event fires.

Values come as rows: one for each channel, or a single one. Sums of squares are computed in float64.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from qp_runner.compress.errors import CalibrationError, infinite_output
from qp_runner.compress.fake_quantize import code_range, quantize
from qp_runner.schedule import Target

ScaleKind = Literal["power_of_two", "float"]

_FINEST, _COARSEST = -126, 128  # scales and the ends of their ranges stay normal float32 numbers
_GRID = 33  # starting points of the float search: one octave either side of the power of two
_ROUNDS = 24  # at most, of refinement; it usually converges within ten


def check_finite(values: Tensor, site: str, *, target: Target = Target.WEIGHT) -> None:
    """Raises CalibrationError if a value is NaN or infinite; ConfigError for an activation that is infinite alone.

    The sum is not finite then, and several times faster than testing each value. Since a sum of finite values can
    overflow, the exact test decides.
    """
    if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
        if target == Target.ACTIVATION and not bool(values.isnan().any()):
            raise infinite_output(site)
        raise CalibrationError(site)


def has_values(rows: Tensor) -> Tensor:
    """Which rows have a value that a scale can be chosen for, shape [rows], bool. A subnormal one is none: the finest
    scale rounds it to zero, and would clamp whatever comes after it.
    """
    return rows.abs().amax(dim=1) >= torch.finfo(torch.float32).tiny


def clip_quantiles(rows: Tensor, quantiles: tuple[float, float]) -> Tensor:
    """Each row clipped to its lower and upper quantile.

    A quantile q of n values is an order statistic, without interpolation: of rank q·(n−1), rounded down for the lower
    and up for the upper one, so that never more than asked for is clipped.
    """
    n = rows.shape[1]
    lower = int(quantiles[0] * (n - 1))
    upper = math.ceil(quantiles[1] * (n - 1))
    low = rows.kthvalue(lower + 1, dim=1, keepdim=True).values
    high = rows.kthvalue(min(upper, n - 1) + 1, dim=1, keepdim=True).values
    return rows.clamp(low, high)


def squared_error(rows: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Sum over each row of (quantized − value)², float64, shape [rows]. `scale` has shape [rows]."""
    low, high = code_range(bits)
    error = quantize(rows, scale=scale[:, None], low=low, high=high).sub_(rows)
    return error.double().square_().sum(dim=1)  # float32 squares of tiny weights would underflow


def choose_scale(rows: Tensor, *, bits: int, kind: ScaleKind) -> Tensor:
    """The scale of each row that minimises its squared error; float32, shape [rows]. A row of zeros gets 1.

    Args:
        rows: finite values, shape [rows, n].
        bits: 2..16.
        kind: `power_of_two`: the best of all 2^−d with an integer d. `float`: any positive number, never worse
            than the power of two on these values.
    """
    rows = rows.detach().to(torch.float32)
    scale = _power_of_two(rows, bits)
    if kind == "float":
        scale = _refined(rows, scale, bits)
    return torch.where((rows == 0).all(dim=1), torch.ones_like(scale), scale)


def _power_of_two(rows: Tensor, bits: int) -> Tensor:
    """Exact search, which has to try few exponents:

    - No scale above the finest one that clamps nothing is better: halving a scale keeps all its levels, so while
      nothing is clamped each element's error can only fall.
    - Below it, clamping costs at least Σ max(0, |distance to the range|)², which grows as the scale falls. Once this
      bound reaches the best error found, no finer scale can be better.

    Of scales with equal errors the coarsest is kept.
    """
    low, high = code_range(bits)
    needed = torch.maximum(rows.amax(dim=1).double() / (high + 0.5), rows.amin(dim=1).double() / (low - 0.5))
    exponent = torch.log2(needed.clamp_min(2.0**_FINEST)).ceil().clamp(_FINEST, _COARSEST - bits)
    best = torch.exp2(exponent).float()
    best_error = squared_error(rows, best, bits)
    while True:
        exponent = exponent - 1
        scale = torch.exp2(exponent.clamp_min(_FINEST)).float()
        beyond = rows - rows.clamp((scale * low)[:, None], (scale * high)[:, None])
        bound = beyond.double().square_().sum(dim=1)
        if bool(((bound >= best_error) | (exponent < _FINEST)).all()):
            return best
        error = squared_error(rows, scale, bits)
        better = error < best_error
        best, best_error = torch.where(better, scale, best), torch.where(better, error, best_error)


def _refined(rows: Tensor, start: Tensor, bits: int) -> Tensor:
    """Two grids around `start`, then alternating least squares: the best scale for the codes, then new codes.

    Both halves of a round can only lower the error, up to rounding; the best scale measured is kept.
    """
    low, high = code_range(bits)
    best, best_error = start, squared_error(rows, start, bits)
    largest = torch.maximum(rows.amax(dim=1) / high, rows.amin(dim=1) / low)
    best, best_error = _better(rows, torch.where(largest > 0, largest, start), bits, best, best_error)
    middle = start
    for width in (1.0, 2.0 / (_GRID - 1)):  # octaves to either side; the second grid refines the first
        for step in torch.linspace(-width, width, _GRID).exp2().tolist():
            best, best_error = _better(rows, step * middle, bits, best, best_error)
        middle = best
    for _ in range(_ROUNDS):
        codes = (rows / best[:, None]).round_().clamp_(low, high).double()
        weight = codes.square().sum(dim=1)
        fitted = (rows * codes).sum(dim=1) / weight.clamp_min(1.0)
        before = best
        best, best_error = _better(rows, torch.where(fitted > 0, fitted, best).float(), bits, best, best_error)
        if torch.equal(before, best):
            break
    return best


def _better(rows: Tensor, scale: Tensor, bits: int, best: Tensor, best_error: Tensor) -> tuple[Tensor, Tensor]:
    error = squared_error(rows, scale, bits)
    better = error < best_error
    return torch.where(better, scale, best), torch.where(better, error, best_error)
