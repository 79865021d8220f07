"""Images of two domains for translation, in memory as uint8 on the training device."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from qp_runner.data.augmentation import RandomCrop
from qp_runner.data.images import Split
from qp_runner.data.rows import Rows, full_batches
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError


class TranslationBatch(NamedTuple):
    """Images of both domains, [n, 3, size, size] each (float32, −1 black to 1 white), on the set's device."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, eq=False)
class Domains:
    """Images of domain A and of domain B, uint8 [n, 3, h, w] each; in a paired set a[i] belongs to b[i]."""

    a: Tensor
    b: Tensor

    def to(self, device: torch.device) -> "Domains":
        """The same images on a device."""
        return Domains(self.a.to(device), self.b.to(device))


@dataclass(frozen=True, eq=False)
class TranslationData:
    """A set for translation from A to B, and back if its images are not paired.

    Args:
        train, val, test: the splits. Validation and test images are `size`×`size`. Training images are at least as
            large; a random square of `size` is cropped from each.
        size: height and width of the networks' inputs, in pixels.
        paired: whether a[i] belongs to b[i]; both then get the same crop and flip.
        flip: flip training images horizontally with probability ½.

    Raises:
        ConfigError: splits that are empty or of wrong types or shapes; pairs of unequal numbers or shapes.
    """

    train: Domains
    val: Domains
    test: Domains
    size: int
    paired: bool
    flip: bool = True
    _crop: RandomCrop = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_crop", RandomCrop(self.size, self.flip))
        for name in ("train", "val", "test"):
            problem = _problem(getattr(self, name), size=self.size, exact=name != "train", paired=self.paired)
            if problem:
                raise ConfigError("data", f"{name} split", problem)

    @property
    def samples(self) -> int:
        """Training samples of an epoch: the number of images of the larger domain."""
        return max(len(self.train.a), len(self.train.b))

    def to(self, device: torch.device) -> "TranslationData":
        """The same data on a device, moved once."""
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[TranslationBatch]:
        """Shuffled, cropped and flipped training batches; an incomplete last one is dropped.

        Unless they are paired, domains are shuffled separately, and the smaller one repeats in another order. Batches
        depend on (seed, epoch) only; all draws are moved to the device before the first batch.
        """
        yield from map(self.make, self.rows(epoch, batch_size=batch_size, seed=seed))

    def rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Rows]:
        """The same batches before `make`: positions in A and B, crops of A, crops of B."""
        columns = [*self._orders("order", epoch, seed=seed), *self._draws(epoch, seed=seed)]
        return full_batches(columns, batch_size=batch_size, device=self.train.a.device)

    def make(self, rows: Rows) -> TranslationBatch:
        """A training batch."""
        at_a, at_b, crops_a, crops_b = rows.numbers.tensor_split([1, 2, 5], dim=1)
        a = self._crop.apply(self.train.a[at_a[:, 0]], crops_a)
        b = self._crop.apply(self.train.b[at_b[:, 0]], crops_b)
        return TranslationBatch(scaled(a), scaled(b))

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[TranslationBatch]:
        """The centres of unflipped training images, always the same for a seed (all if there are fewer)."""
        device = self.train.a.device
        order_a, order_b = (order[:samples].to(device) for order in self._orders("calibration", 0, seed=seed))
        for a, b in zip(order_a.split(batch_size), order_b.split(batch_size), strict=True):
            yield TranslationBatch(scaled(self._centre(self.train.a[a])), scaled(self._centre(self.train.b[b])))

    def sample(self) -> TranslationBatch:
        """The centres of the first training images, one of each domain."""
        return TranslationBatch(*(scaled(self._centre(each[:1])) for each in (self.train.a, self.train.b)))

    def split(self, name: Split) -> Domains:
        """The images of a split, uint8."""
        chosen: Domains = getattr(self, name)
        return chosen

    def _orders(self, what: str, epoch: int, *, seed: int) -> tuple[Tensor, Tensor]:
        count = self.samples
        if self.paired:
            order = _order(len(self.train.a), count, generator(seed, what, epoch))
            return order, order
        a = _order(len(self.train.a), count, generator(seed, what, epoch, "a"))
        return a, _order(len(self.train.b), count, generator(seed, what, epoch, "b"))

    def _draws(self, epoch: int, *, seed: int) -> tuple[Tensor, Tensor]:
        def draw(images: Tensor, *place: str) -> Tensor:
            random = generator(seed, "augmentation", epoch, *place)
            height, width = images.shape[-2:]
            return self._crop.draw(self.samples, random, height=height, width=width)

        if self.paired:
            draws = draw(self.train.a)
            return draws, draws
        return draw(self.train.a, "a"), draw(self.train.b, "b")

    def _centre(self, images: Tensor) -> Tensor:
        top, left = ((edge - self.size) // 2 for edge in images.shape[-2:])
        return images[:, :, top : top + self.size, left : left + self.size]


def scaled(images: Tensor) -> Tensor:
    """uint8 images as inputs of networks: float32, −1 black to 1 white."""
    return images.float() / 127.5 - 1


def as_uint8(images: Tensor) -> Tensor:
    """A network's outputs in [−1, 1] as uint8 images: the inverse of `scaled`, rounded."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _order(images: int, count: int, random: torch.Generator) -> Tensor:
    """`count` positions of images, from as many shuffles as needed."""
    shuffles = [torch.randperm(images, generator=random) for _ in range(-(-count // images))]
    return torch.cat(shuffles)[:count]


def _problem(domains: Domains, *, size: int, exact: bool, paired: bool) -> str | None:
    """What is wrong with a split, if anything."""
    for name, images in (("A", domains.a), ("B", domains.b)):
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            return f"images must be uint8 [n, 3, h, w]; those of {name} are {images.dtype} {[*images.shape]}"
        if len(images) == 0:
            return f"has no images of domain {name}"
        height, width = images.shape[-2:]
        if (exact and (height, width) != (size, size)) or min(height, width) < size:
            wanted = f"{size}×{size}" + ("" if exact else " or larger")
            return f"images must be {wanted}; those of {name} are {height}×{width}"
    if paired and domains.a.shape != domains.b.shape:
        return f"is no set of pairs: {[*domains.a.shape]} images of A, {[*domains.b.shape]} of B"
    return None
