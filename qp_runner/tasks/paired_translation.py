"""Translation learned from pairs of images: Pix2Pix (Isola et al. 2017, arXiv 1611.07004)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.data import TranslationBatch, TranslationData
from qp_runner.data.translation import as_uint8, scaled
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.adversarial import JUDGEMENT, PICTURES, check_weight, cross_entropy, frozen
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.checks import check_data, check_shape
from qp_runner.tasks.fid import FrechetDistance
from qp_runner.tasks.networks import build_networks
from qp_runner.tasks.pictures import side_by_side
from qp_runner.tasks.similarity import ssim

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


class PairedTranslationTask(Task):
    """A generator that translates A to B, and a discriminator that judges pairs; Fréchet distance, lower is better.

    In evaluation dropout is off (as published it stays on), so that a network's figure is one number.

    Args:
        data: pairs.
        networks: `generator` (given `in_channels`, `out_channels`) and `discriminator` (given `in_channels`).
        batch_size: training pairs per step.
        seed: decides initial weights, data order, crops and calibration samples.
        l1_weight: of the mean absolute difference to the target, relative to the adversarial loss.
        extractor: of the Fréchet distance: `inception`, `efficientnet_lite0` or `small`; decides the metric's name.
        eval_batch_size: pairs per batch in evaluation.

    Raises:
        ConfigError: unpaired data, networks that do not fit, an impossible batch size or weight, an unknown extractor.
    """

    caches = ("distance",)  # sums over real images
    data: TranslationData

    def __init__(
        self,
        *,
        data: TranslationData,
        networks: Mapping[str, Callable[..., nn.Module]],
        batch_size: int,
        seed: int,
        l1_weight: float = 100.0,
        extractor: str = "small",
        eval_batch_size: int = 16,
    ) -> None:
        check_data(data, TranslationData, task="paired_translation", such_as="generated_facades, facades")
        check_weight("l1_weight", l1_weight)
        if not data.paired:
            raise ConfigError("data", "unpaired", "paired_translation needs pairs; unpaired_translation takes this set")
        self.l1_weight, self.eval_batch_size = l1_weight, eval_batch_size
        given = {GENERATOR: {"in_channels": 3, "out_channels": 3}, DISCRIMINATOR: {"in_channels": 6}}
        built = build_networks(networks, given, task="paired_translation", seed=seed)
        super().__init__(data=data, samples=data.samples, networks=built, batch_size=batch_size, seed=seed)
        self.generator, self.discriminator = built[GENERATOR], built[DISCRIMINATOR]
        sample = data.sample()
        check_shape(GENERATOR, self.generator, sample.a, tuple(sample.b.shape))
        check_shape(DISCRIMINATOR, self.discriminator, torch.cat(sample, dim=1), JUDGEMENT)
        self.distance = FrechetDistance(extractor, size=data.size)
        self.metric = Metric(self.distance.name, higher_is_better=False)

    def compressible(self) -> Mapping[str, nn.Module]:
        """The generator only: the discriminator is not deployed."""
        return {GENERATOR: self.generator}

    def updates(self, batch: TranslationBatch) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's update, its loss halved, then the generator's."""
        made = self.generator(batch.a)
        judged_made = self.discriminator(torch.cat([batch.a, made.detach()], dim=1))
        judged_real = self.discriminator(torch.cat([batch.a, batch.b], dim=1))
        yield DISCRIMINATOR, (cross_entropy(judged_made, real=False) + cross_entropy(judged_real, real=True)) / 2
        with frozen([self.discriminator]):
            judged = self.discriminator(torch.cat([batch.a, made], dim=1))
        yield GENERATOR, cross_entropy(judged, real=True) + self.l1_weight * F.l1_loss(made, batch.b)

    def infer(self, batch: TranslationBatch) -> None:
        """Translates A."""
        self.generator(batch.a)

    def sample(self) -> TranslationBatch:
        """The first training pair."""
        return self.data.sample()

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """The Fréchet distance to the real images with its n, and means over pairs: `l1`, where black is 0 and white 1,
        and `ssim` (structural similarity of RGB images, Wang et al. 2004).
        """
        pairs = self.data.split(split)
        sums = torch.zeros(2, device=pairs.a.device)

        def generated() -> Iterator[Tensor]:
            nonlocal sums
            for a, b in zip(pairs.a.split(self.eval_batch_size), pairs.b.split(self.eval_batch_size), strict=True):
                made = self._translate(a)
                ours, target = (made + 1) / 2, b.float() / 255
                sums += len(a) * torch.stack([F.l1_loss(ours, target), ssim(ours, target)])
                yield as_uint8(made)

        with evaluating(self.networks()):
            figures = self.distance.measure(
                key=split, real=pairs.b, generated=generated(), batch_size=self.eval_batch_size
            )
        l1, similarity = (sums / len(pairs.a)).tolist()
        return figures | {"l1": l1, "ssim": similarity}

    def pictures(self) -> Mapping[str, Tensor]:
        """Input, output and target of the first test pairs."""
        pairs = self.data.split("test")
        with evaluating(self.networks()):
            made = as_uint8(self._translate(pairs.a[:PICTURES]))
        return {
            f"pair{number + 1}__input__output__target": side_by_side(images)
            for number, images in enumerate(zip(pairs.a[:PICTURES], made, pairs.b[:PICTURES], strict=True))
        }

    def to(self, device: torch.device) -> None:
        """Moves networks, data and the metric's extractor."""
        super().to(device)
        self.distance.to(device)

    def _translate(self, images: Tensor) -> Tensor:
        """uint8 images of A → images of B, float32 in [−1, 1]."""
        made: Tensor = self.generator(scaled(images))
        return made.float()
