"""Images of a batch mixed with each other, by torchvision's MixUp and CutMix."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qp_runner.data.loading import Place
from qp_runner.data.seeding import Seeded, generator


@dataclass(frozen=True)
class Mixing:
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), one of them for each batch where both are given.

    Attributes:
        mixup, cutmix: α of the Beta distribution from which shares are drawn; 0 for none.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, images: Tensor, labels: Tensor, *, classes: int, place: Place) -> tuple[Tensor, Tensor]:
        """Mixed images [n, c, h, w] and the shares of the classes in them [n, classes] (float32).

        `place` decides the draws, which are made on the CPU: the batch is not waited for.
        """
        kinds = [name for name in ("mixup", "cutmix") if getattr(self, name) > 0]
        chosen = kinds[int(torch.randint(len(kinds), (1,), generator=generator(*place, "mixing")))]
        with Seeded(*place, "mixing", "shares"):
            mixed: tuple[Tensor, Tensor] = _library(chosen, getattr(self, chosen), classes)(images, labels)
        return mixed


def _library(name: str, alpha: float, classes: int) -> Any:
    from torchvision.transforms import v2  # slow to import

    return {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](alpha=alpha, num_classes=classes)
