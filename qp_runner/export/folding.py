"""Codes, scales and biases of a layer, with a batch norm folded into them, for integer kernels.

A convolution with codes q and scales s, followed by `y = a·(conv + bias − mean) + beta`, `a = gamma / √(var + ε)`, is a
convolution with scales |a|·s, codes sign(a)·q and the bias `beta + a·(bias − mean)`, for each output channel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST, SMALLEST = 127, -128  # codes of 8 bits
BIAS_LIMIT = 2**30  # of 32-bit biases: a sum of products has to have room beside them
FINE = 2.0**-60
"""The scale of a channel that is switched off; where its bias is not zero, `with_room_for_bias` chooses another one."""

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Norm:
    """A batch norm's parameters and statistics, each [channels]."""

    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """A weight [channels, ...] and a bias.

    Attributes:
        codes: of 2 to 8 bits.
        factor: whole numbers [channels]; the weight is `codes · factor · scale`, and `codes · factor` fits 8 bits.
        scale: float32 [channels], positive.
        bias: float64 [channels].
    """

    codes: Codes
    factor: Codes
    scale: Floats
    bias: Floats

    @property
    def wide(self) -> Codes:
        """Codes times factor."""
        return self.codes * by_channel(self.factor, self.codes)


def by_channel(values: NDArray[Any], codes: Codes) -> NDArray[Any]:
    """Values [channels] in a shape that broadcasts against codes [channels, ...]."""
    return values.reshape(-1, *[1] * (codes.ndim - 1))


def fold(codes: Codes, scale: Floats, bias: Floats | None, norm: Norm | None) -> Layer | None:
    """A layer with its batch norm in it. None where codes of −128 would have to change their sign.

    The codes of a channel are multiplied by the largest whole number that keeps them in 8 bits, and the scale divided
    by it: a bias, which has the step of input scale times weight scale, is then rounded less. Low bit widths need it.
    """
    channels = codes.shape[0]
    bias = np.zeros(channels) if bias is None else bias.astype(np.float64)
    gain = np.ones(channels)
    if norm is not None:
        gain = norm.gamma.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
        bias = norm.beta.astype(np.float64) + gain * (bias - norm.mean.astype(np.float64))
    largest = np.abs(codes).reshape(channels, -1).max(axis=1, initial=0)
    if bool(((largest > LARGEST) & (gain < 0)).any()):
        return None
    times = np.maximum(LARGEST // np.maximum(largest, 1), 1)
    scaled = np.abs(gain) * scale.astype(np.float64) / times
    dead = scaled < np.finfo(np.float32).tiny  # a channel that is switched off
    factor = np.where(dead, 0, np.sign(gain) * times).astype(np.int32)
    return Layer(codes, factor, np.where(dead, FINE, scaled).astype(np.float32), bias)


def with_room_for_bias(layer: Layer, *, input_scale: float) -> Layer:
    """The layer with coarser scales where a bias would not fit 32 bits: next to such a bias its products are small."""
    needed = np.abs(layer.bias) / (BIAS_LIMIT * input_scale)
    coarse = layer.scale < needed
    if not coarse.any():
        return layer
    scale = np.where(coarse, needed, layer.scale).astype(np.float32)
    ratio = by_channel(layer.scale / scale, layer.codes)
    codes = np.where(by_channel(coarse, layer.codes), np.round(layer.wide * ratio), layer.codes).astype(np.int32)
    return Layer(codes, np.where(coarse, 1, layer.factor).astype(np.int32), scale, layer.bias)


def bias_codes(layer: Layer, *, input_scale: float) -> tuple[Codes, Floats]:
    """The bias as int32, and its step: input scale times weight scale."""
    step = np.float32(input_scale) * layer.scale.astype(np.float32)
    return np.round(layer.bias / step.astype(np.float64)).astype(np.int32), step
