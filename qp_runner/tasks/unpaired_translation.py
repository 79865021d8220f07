"""Translation between two domains learned without pairs: CycleGAN (Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.data import TranslationBatch, TranslationData
from qp_runner.data.translation import as_uint8, scaled
from qp_runner.metric import Metric
from qp_runner.tasks.adversarial import JUDGEMENT, PICTURES, check_weight, frozen, least_squares
from qp_runner.tasks.base import Task, evaluating, group
from qp_runner.tasks.checks import check_data, check_shape
from qp_runner.tasks.fid import FrechetDistance
from qp_runner.tasks.image_pool import ImagePool, UnpairedBatch, UnpairedRows
from qp_runner.tasks.networks import build_networks
from qp_runner.tasks.pictures import side_by_side

GENERATORS = ("a_to_b", "b_to_a")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")


class UnpairedTranslationTask(Task):
    """Two generators, A to B and back, and a discriminator for each domain; Fréchet distance, lower is better.

    A step trains both generators with one optimizer, then both discriminators with another. The metric is the distance
    of A to B; that of B to A is recorded too.

    Args:
        data: images of both domains.
        networks: `a_to_b`, `b_to_a` (given `in_channels`, `out_channels`), `discriminator_a`, `discriminator_b` (given
            `in_channels`).
        batch_size: training images of each domain per step.
        seed: decides initial weights, data order, crops, the pools' draws and calibration samples.
        cycle_weight: of the mean absolute difference between an image and its translation there and back.
        identity_weight: of that between an image and its translation into its own domain, as a share of `cycle_weight`.
        pool: earlier generated images from which each discriminator learns.
        extractor: of the Fréchet distance: `inception`, `efficientnet_lite0` or `small`; decides the metric's name.
        eval_batch_size: images per batch in evaluation.

    Raises:
        ConfigError: networks that do not fit, an impossible batch size, weight or pool, an unknown extractor.
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
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        pool: int = 50,
        extractor: str = "small",
        eval_batch_size: int = 16,
    ) -> None:
        check_data(data, TranslationData, task="unpaired_translation", such_as="horse2zebra, facades_unpaired")
        check_weight("cycle_weight", cycle_weight)
        check_weight("identity_weight", identity_weight)
        self.cycle_weight, self.identity_weight, self.eval_batch_size = cycle_weight, identity_weight, eval_batch_size
        given = {name: {"in_channels": 3, "out_channels": 3} for name in GENERATORS}
        given |= {name: {"in_channels": 3} for name in DISCRIMINATORS}
        built = build_networks(networks, given, task="unpaired_translation", seed=seed)
        super().__init__(data=data, samples=data.samples, networks=built, batch_size=batch_size, seed=seed)
        image = data.sample().a
        for name, network in built.items():
            check_shape(name, network, image, tuple(image.shape) if name in GENERATORS else JUDGEMENT)
        self.pool_a = ImagePool("a", capacity=pool, size=data.size, seed=seed)
        self.pool_b = ImagePool("b", capacity=pool, size=data.size, seed=seed)
        self.distance = FrechetDistance(extractor, size=data.size)
        self.metric = Metric(self.distance.name, higher_is_better=False)

    def compressible(self) -> Mapping[str, nn.Module]:
        """The generators."""
        return {name: self._networks[name] for name in GENERATORS}

    def parameter_groups(self) -> Mapping[str, list[dict[str, Any]]]:
        """One optimizer for both generators, one for both discriminators."""
        return {
            "generators": group(*(self._networks[name] for name in GENERATORS)),
            "discriminators": group(*(self._networks[name] for name in DISCRIMINATORS)),
        }

    def updates(self, batch: UnpairedBatch) -> Iterator[tuple[str, Tensor]]:
        """The generators' update, then the discriminators', with halved losses."""
        a_to_b, b_to_a, judge_a, judge_b = (self._networks[name] for name in GENERATORS + DISCRIMINATORS)
        made_b, made_a = a_to_b(batch.a), b_to_a(batch.b)
        with frozen([judge_a, judge_b]):
            adversarial = least_squares(judge_b(made_b), real=True) + least_squares(judge_a(made_a), real=True)
        cycle = F.l1_loss(b_to_a(made_b), batch.a) + F.l1_loss(a_to_b(made_a), batch.b)
        loss = adversarial + self.cycle_weight * cycle
        if self.identity_weight:
            identity = F.l1_loss(a_to_b(batch.b), batch.b) + F.l1_loss(b_to_a(batch.a), batch.a)
            loss = loss + self.identity_weight * self.cycle_weight * identity
        yield "generators", loss
        earlier_a = self.pool_a.exchange(made_a.detach(), batch.pool_a)
        earlier_b = self.pool_b.exchange(made_b.detach(), batch.pool_b)
        real = least_squares(judge_a(batch.a), real=True) + least_squares(judge_b(batch.b), real=True)
        made = least_squares(judge_a(earlier_a), real=False) + least_squares(judge_b(earlier_b), real=False)
        yield "discriminators", (real + made) / 2

    def rows(self, epoch: int) -> Iterator[UnpairedRows]:
        """Shuffled, cropped and flipped images with the pools' draws."""
        samples, size = self.steps_per_epoch * self.batch_size, self.batch_size
        device = self.data.train.a.device
        pools = [pool.draws(epoch, samples=samples).to(device).split(size) for pool in (self.pool_a, self.pool_b)]
        yield from map(UnpairedRows, super().rows(epoch), *pools)

    def make(self, rows: UnpairedRows | UnpairedBatch) -> UnpairedBatch:
        """The training batch."""
        if isinstance(rows, UnpairedBatch):
            return rows
        a, b = super().make(rows.rows)
        return UnpairedBatch(a, b, rows.pool_a, rows.pool_b)

    def infer(self, batch: TranslationBatch | UnpairedBatch) -> None:
        """Translates both domains."""
        self._networks["a_to_b"](batch.a)
        self._networks["b_to_a"](batch.b)

    def sample(self) -> TranslationBatch:
        """The first training image of each domain."""
        return self.data.sample()

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """The Fréchet distances of both directions with their n, and `cycle_l1`: the mean absolute difference between
        an image of A and its translation there and back, where black is 0 and white 1.
        """
        images, size = self.data.split(split), self.eval_batch_size
        away = torch.zeros((), device=images.a.device)

        def generated() -> Iterator[Tensor]:
            nonlocal away
            for a in images.a.split(size):
                made = self._translate("a_to_b", scaled(a))
                away += len(a) * F.l1_loss(self._translate("b_to_a", made), scaled(a)) / 2
                yield as_uint8(made)

        with evaluating(self.networks()):
            figures = self.distance.measure(
                key=f"{split} b", real=images.b, generated=generated(), batch_size=size
            ) | self.distance.measure(
                key=f"{split} a",
                real=images.a,
                generated=(as_uint8(self._translate("b_to_a", scaled(b))) for b in images.b.split(size)),
                batch_size=size,
                suffix="_b_to_a",
            )
        return figures | {"cycle_l1": (away / len(images.a)).item()}

    def pictures(self) -> Mapping[str, Tensor]:
        """Input, output and its translation back, for the first test images of each domain."""
        images, pictures = self.data.split("test"), dict[str, Tensor]()
        with evaluating(self.networks()):
            for there, back, inputs in (("a_to_b", "b_to_a", images.a), ("b_to_a", "a_to_b", images.b)):
                made = self._translate(there, scaled(inputs[:PICTURES]))
                again = as_uint8(self._translate(back, made))
                for number, parts in enumerate(zip(inputs[:PICTURES], as_uint8(made), again, strict=True)):
                    pictures[f"{there}{number + 1}__input__output__back"] = side_by_side(parts)
        return pictures

    def state_dict(self) -> dict[str, Any]:
        """The images of both pools."""
        return {"pool_a": self.pool_a.images, "pool_b": self.pool_b.images}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the pools' images, in place."""
        self.pool_a.images.copy_(state["pool_a"])
        self.pool_b.images.copy_(state["pool_b"])

    def to(self, device: torch.device) -> None:
        """Moves networks, data, pools and the metric's extractor."""
        super().to(device)
        self.distance.to(device)
        for pool in (self.pool_a, self.pool_b):
            pool.to(device)

    def _translate(self, name: str, images: Tensor) -> Tensor:
        """Scaled images → one generator's translations, float32 in [−1, 1]."""
        made: Tensor = self._networks[name](images)
        return made.float()
