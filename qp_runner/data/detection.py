"""Images with boxes, for detectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from qp_runner.data.image_files import read_image
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError

Split = Literal["train", "val", "test"]
Target = dict[str, Tensor]
"""`boxes` [k, 4] (float32: left, top, right, bottom in pixels), `labels` [k] (int64, from 1) and, in evaluation,
`difficult` [k] (bool)."""


class DetectionBatch(NamedTuple):
    """Images, float32 [3, h, w] in 0..1, which may differ in size; their targets; and the seed of random draws in this
    step (int64, 0-dim, on the CPU).
    """

    images: list[Tensor]
    targets: list[Target]
    seed: Tensor


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its objects.

    Args:
        name: of the image, for errors and pictures.
        image: uint8 [3, h, w], or the path of a file.
        size: (h, w) to which the image is scaled; boxes are in its pixels.
        boxes: [k, 4] (float32): left, top, right, bottom; inside the image and not empty.
        labels: [k] (int64): 1 is the first class; 0 is reserved for the background.
        difficult: [k] (bool): left out of training, and ignored in evaluation.
    """

    name: str
    image: Tensor | Path
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    difficult: Tensor

    def pixels(self) -> Tensor:
        """The image, uint8 [3, *size]; ConfigError for a file that can't be read."""
        image = read_image(self.image, key="data.root") if isinstance(self.image, Path) else self.image
        if tuple(image.shape[1:]) == self.size:
            return image
        made: Tensor = resize(image, list(self.size), antialias=True)
        return made

    def held(self) -> "Scene":
        """The same scene with its image in memory."""
        return replace(self, image=self.pixels())


@dataclass(frozen=True, eq=False)
class DetectionData:
    """A detection set.

    Args:
        train, val, test: the splits. Images without objects are kept as background.
        classes: their names; label 1 is the first.
        flip: mirror training images horizontally with probability ½.
        device: of the batches.

    Raises:
        ConfigError: an empty split, boxes that are empty or outside their image, labels without a class, a training
            split without boxes.
    """

    train: tuple[Scene, ...]
    val: tuple[Scene, ...]
    test: tuple[Scene, ...]
    classes: tuple[str, ...]
    flip: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        for split in ("train", "val", "test"):
            scenes: tuple[Scene, ...] = getattr(self, split)
            if not scenes:
                raise ConfigError("data", f"{split} split", "has no images")
            for scene in scenes:
                _check(scene, classes=len(self.classes))
        if not any((~scene.difficult).any() for scene in self.train):
            raise ConfigError("data", "train split", "has no box to learn (difficult ones are not learned)")

    def to(self, device: torch.device) -> "DetectionData":
        """The same data on a device: images in memory are moved now, files when they are read."""

        def moved(scene: Scene) -> Scene:
            return scene if isinstance(scene.image, Path) else replace(scene, image=scene.image.to(device))

        splits = {split: tuple(map(moved, getattr(self, split))) for split in ("train", "val", "test")}
        return replace(self, device=device, **splits)  # type: ignore[arg-type]

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[DetectionBatch]:
        """Shuffled training batches, flipped at random, without difficult objects; an incomplete last one is dropped.

        They depend on (seed, epoch) only.
        """
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch)).tolist()
        flips = torch.rand(len(order), generator=generator(seed, "augmentation", epoch)) < 0.5 * self.flip
        draws = torch.randint(2**31, (len(order),), generator=generator(seed, "draws", epoch))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            place = slice(start, start + batch_size)
            scenes = [self.train[index] for index in order[place]]
            yield self._batch(scenes, flips=flips[place].tolist(), seed=draws[start], learned=True)

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[DetectionBatch]:
        """Unflipped training images, always the same for a seed (all of them if there are fewer)."""
        order = torch.randperm(len(self.train), generator=generator(seed, "calibration"))[:samples]
        for index in order.split(batch_size):
            yield self.batch([self.train[position] for position in index.tolist()])

    def evaluation(self, split: Split, *, batch_size: int) -> Iterator[DetectionBatch]:
        """A complete split in order; targets include `difficult`."""
        scenes: tuple[Scene, ...] = getattr(self, split)
        for start in range(0, len(scenes), batch_size):
            yield self.batch(scenes[start : start + batch_size])

    def batch(self, scenes: Sequence[Scene]) -> DetectionBatch:
        """A batch of unflipped scenes, including difficult objects."""
        return self._batch(scenes, flips=[False] * len(scenes), seed=torch.tensor(0), learned=False)

    def _batch(self, scenes: Sequence[Scene], *, flips: list[bool], seed: Tensor, learned: bool) -> DetectionBatch:
        images, targets = [], []
        for scene, flipped in zip(scenes, flips, strict=True):
            image = scene.pixels().to(self.device).float() / 255
            boxes = scene.boxes
            if flipped:
                image, boxes = image.flip(-1), mirrored(boxes, width=scene.size[1])
            kept = ~scene.difficult if learned else torch.ones_like(scene.difficult)
            target = {"boxes": boxes[kept].to(self.device), "labels": scene.labels[kept].to(self.device)}
            images.append(image)
            targets.append(target if learned else target | {"difficult": scene.difficult.to(self.device)})
        return DetectionBatch(images, targets, seed)


def mirrored(boxes: Tensor, *, width: int) -> Tensor:
    """Boxes [k, 4] of an image `width` pixels wide, in its mirror image."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def scaled_size(size: tuple[int, int], *, shorter: int | None, longer: int | None) -> tuple[int, int]:
    """(h, w) scaled so that the shorter side is `shorter`, or less if the longer one would exceed `longer`."""
    if shorter is None:
        return size
    scale = shorter / min(size)
    if longer is not None:
        scale = min(scale, longer / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def _check(scene: Scene, *, classes: int) -> None:
    boxes, (height, width) = scene.boxes, scene.size
    problem = None
    kinds = (boxes.dtype, scene.labels.dtype, scene.difficult.dtype)
    if kinds != (torch.float32, torch.int64, torch.bool):
        problem = f"boxes, labels and difficult must be float32, int64 and bool; these are {', '.join(map(str, kinds))}"
    elif boxes.shape != (len(scene.labels), 4) or scene.difficult.shape != scene.labels.shape:
        problem = f"{[*boxes.shape]} boxes, {len(scene.labels)} labels and {len(scene.difficult)} marks of difficulty"
    elif len(boxes) and not bool((boxes[:, 2:] > boxes[:, :2]).all()):
        problem = "a box is empty"
    elif len(boxes) and not bool((boxes >= 0).all() & (boxes[:, 2] <= width).all() & (boxes[:, 3] <= height).all()):
        problem = f"a box is not inside the image of {height}×{width}"
    elif len(boxes) and not bool(((scene.labels >= 1) & (scene.labels <= classes)).all()):
        problem = f"labels must be in 1..{classes}; these are {scene.labels.unique().tolist()}"
    if problem:
        raise ConfigError("data", scene.name, problem)
