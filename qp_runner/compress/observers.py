"""What is kept of activations during calibration: bounded memory, never the samples themselves."""

import zlib
from typing import Protocol

import torch
from torch import Tensor

from qp_runner.compress.calibration import check_finite
from qp_runner.compress.errors import Granularity, never_called, wrong_shape
from qp_runner.schedule import Target


class Observer(Protocol):
    """Is shown each input or each output of one site, shape [batch, ...]."""

    def __call__(self, x: Tensor) -> None:
        """Adds a batch."""


def channel_means(x: Tensor) -> Tensor:
    """The mean over positions, shape [batch, C, 1, ...], float64; `x` is [batch, C, ...]."""
    return x.double() if x.dim() < 3 else x.mean(dim=tuple(range(2, x.dim())), keepdim=True, dtype=torch.float64)


class MeanMagnitude:
    """The streaming mean of |x| over samples, in float64.

    `element`: one mean for each element of a sample, shape x.shape[1:]; every sample must have that shape. `channel`:
    one for each channel (dimension 1), shape [C, 1, ...]: the mean over positions, then over samples. A module called
    several times in a forward adds one sample for each call.
    """

    def __init__(self, site: str, granularity: Granularity) -> None:
        self.site = site
        self.granularity = granularity
        self.samples = 0
        self._total: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Adds a batch, shape [batch, ...]. Raises ConfigError for samples of another shape than before."""
        check_finite(x, self.site, target=Target.ACTIVATION)
        magnitude = x.detach().abs()
        if self.granularity == "channel":
            magnitude = channel_means(magnitude)
        total = magnitude.sum(dim=0, dtype=torch.float64)
        if self._total is None:
            self._total = torch.zeros_like(total)
        if self._total.shape != total.shape:
            raise wrong_shape(self.site, self.granularity, [tuple(self._total.shape), tuple(total.shape)])
        self._total += total
        self.samples += x.shape[0]

    def result(self) -> Tensor:
        """The mean; raises ConfigError if the module was never called, or only with empty batches."""
        return _seen(self._total if self.samples else None, self.site) / self.samples


class Subsample:
    """A deterministic sample of at most `limit` values from a stream of unknown length; all values while they fit.

    One value is drawn from each run of `2^level` neighbours in a batch. When a batch would exceed the limit, the level
    rises, and of each two neighbours kept so far a random one is dropped, so every value of the stream has the same
    chance. The random generator is seeded by the site's path.
    """

    def __init__(self, site: str, limit: int) -> None:
        self.site = site
        self.limit = limit
        self._level = 0
        self._kept: Tensor | None = None
        self._random = torch.Generator().manual_seed(zlib.crc32(site.encode()))

    def __call__(self, x: Tensor) -> None:
        """Adds a batch of any shape."""
        check_finite(x, self.site, target=Target.ACTIVATION)
        flat = x.detach().flatten()
        kept = flat.new_empty(0, dtype=torch.float32) if self._kept is None else self._kept
        while kept.numel() + _runs(flat.numel(), 2**self._level) > self.limit:
            kept = self._draw(kept, 2)
            self._level += 1
        self._kept = torch.cat([kept, self._draw(flat, 2**self._level).float()])

    def _draw(self, flat: Tensor, stride: int) -> Tensor:
        """A random value from each run of `stride` neighbours, including a shorter last run."""
        if stride == 1:
            return flat
        starts = torch.arange(0, flat.numel(), stride)
        index = starts + torch.randint(stride, starts.shape, generator=self._random)
        return flat[index.clamp_(max=flat.numel() - 1).to(flat.device)]

    def result(self) -> Tensor:
        """The values, float32 [n]; raises ConfigError if the module was never called, or only with empty batches."""
        return _seen(self._kept if self._kept is not None and self._kept.numel() else None, self.site)


def _runs(n: int, stride: int) -> int:
    return -(-n // stride)


def _seen(values: Tensor | None, site: str) -> Tensor:
    if values is None:
        raise never_called(site)
    return values
