"""Fréchet distance between sets of images (Heusel et al. 2017, arXiv 1706.08500), computed by torchmetrics."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qp_runner.errors import ConfigError
from qp_runner.tasks.extractors import KEY, METRICS, SMALLEST, make_extractor

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance


class FrechetDistance:
    """Distances between real and generated images. Real images pass the extractor only once.

    The distance is biased upward for few images, and differently for every n: compare figures of equal n only. Sums are
    computed in float64. With fewer images than features the covariances lack full rank, which the distance allows.

    Args:
        extractor: see `extractors.make_extractor`.
        size: height and width of the images.

    Attributes:
        name: of the metric; `fid` for the standard extractor only.

    Raises:
        ConfigError: no such extractor, or images too small for it.
    """

    def __init__(self, extractor: str, *, size: int) -> None:
        self._extractor = make_extractor(extractor)
        if extractor == "small" and size < SMALLEST:
            raise ConfigError(
                KEY, extractor, f"needs images of at least {SMALLEST}×{SMALLEST}; these are {size}×{size}"
            )
        self.name = METRICS[extractor]
        self._device = torch.device("cpu")
        self._metrics: dict[str, FrechetInceptionDistance] = {}

    def to(self, device: torch.device) -> None:
        """Sets the device to compute on; the CPU for a device without float64."""
        self._device = torch.device("cpu") if device.type == "mps" else device
        self._extractor.to(self._device)
        self._metrics.clear()

    def measure(
        self, *, key: str, real: Tensor, generated: Iterable[Tensor], batch_size: int, suffix: str = ""
    ) -> dict[str, float]:
        """The distance, under the metric's name, and its numbers of images (`…_n_real`, `…_n_generated`).

        Args:
            key: names the set of real images, which must be the same for every call with this key.
            real: uint8 [n, 3, h, w].
            generated: batches of the same type; at least two images in total.
            batch_size: real images per batch of the extractor.
            suffix: appended to the metric's name.

        Raises:
            ConfigError: fewer than two images.
        """
        from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

        metric = self._metrics.get(key)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            if metric is None:
                metric = FrechetInceptionDistance(feature=self._extractor, reset_real_features=False).to(self._device)
                for batch in real.split(batch_size):
                    metric.update(batch.to(self._device), real=True)
                self._metrics[key] = metric
            metric.reset()
            count = 0
            for batch in generated:
                metric.update(batch.to(self._device), real=False)
                count += len(batch)
            if min(count, len(real)) < 2:
                raise ConfigError("data", f"{len(real)} images", f"{self.name} needs at least two of each kind")
            distance = metric.compute().item()
        name = f"{self.name}{suffix}"
        return {name: distance, f"{name}_n_real": len(real), f"{name}_n_generated": count}
