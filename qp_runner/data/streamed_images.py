"""Images that are read and prepared for each batch, for sets that don't fit in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from qp_runner.data.loading import Place, load
from qp_runner.data.picture_sources import Pictures
from qp_runner.data.pictures import Preparation
from qp_runner.errors import ConfigError


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Pictures with their classes; takes the place of an `ImageSet`.

    Args:
        pictures: where they come from.
        prepare: makes samples of one size.
        workers: processes that read; 0 for none. They decide the speed and nothing else.
        transform: changes a training sample (uint8 [c, h, w]) at random, by torch's global generator. None: samples
            stay as they were prepared.
        size: height and width of what the transform makes.
        device: of the batches.
    """

    pictures: Pictures
    prepare: Preparation
    workers: int = 0
    transform: Callable[[Tensor], Tensor] | None = None
    size: tuple[int, int] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> Tensor:
        """The classes [n] (int64), on the CPU."""
        return self.pictures.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a sample before it is transformed."""
        return self.prepare.shape

    @property
    def index_device(self) -> torch.device:
        """Where positions have to be."""
        return torch.device("cpu")

    def to(self, device: torch.device) -> "StreamedImages":
        """The same set with batches on a device."""
        return replace(self, device=device)

    def batches(self, index: Sequence[Tensor], place: Place | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (uint8 [n, c, h, w]) and labels at these positions, on the device.

        Args:
            index: the positions of each batch.
            place: in training, which decides what the transform draws; None leaves samples as they were prepared.
        """
        samples = _Samples(self, transformed=place is not None)
        for images, labels in load(samples, index, workers=self.workers, place=place or ()):
            yield images.to(self.device), labels.to(self.device)


class _Samples(Dataset[Any]):
    """Single samples by position."""

    def __init__(self, images: StreamedImages, *, transformed: bool) -> None:
        self.images, self.transform = images, images.transform if transformed else None

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        images = self.images
        sample = images.pictures.read(position, images.prepare)
        if self.transform is not None:
            sample = self.transform(sample)
            wanted = (images.shape[0], *(images.size or images.shape[1:]))
            if not isinstance(sample, Tensor) or sample.dtype != torch.uint8 or tuple(sample.shape) != wanted:
                found = f"{sample.dtype} {[*sample.shape]}" if isinstance(sample, Tensor) else type(sample).__name__
                raise ConfigError("data.transforms", found, f"have to end with torch.uint8 {list(wanted)}")
        return sample, images.labels[position]
