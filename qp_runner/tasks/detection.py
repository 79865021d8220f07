"""Object detection."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from qp_runner.data.detection import DetectionBatch, DetectionData, Target
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.average_precision import voc_average_precisions
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.checks import check_data, outcome
from qp_runner.tasks.networks import build_networks
from qp_runner.tasks.pictures import side_by_side, with_boxes

DETECTOR = "detector"
PICTURES = 4
PICTURE_SIDE = 240  # least pixels of the shorter side


class DetectionTask(Task):
    """One detector, the sum of its losses, the mean average precision of VOC in percent.

    A detector is called as torchvision's are: with a list of images and, in training, a list of targets; it returns a
    dict of losses in training and a dict of `boxes`, `labels`, `scores` for each image in evaluation.

    Args:
        data: images with boxes.
        networks: `detector` builds the network from `classes`.
        batch_size: training images per step.
        seed: decides initial weights, data order, flips, the detector's random draws and calibration samples.
        eval_batch_size: images per batch in evaluation.
        coco: where COCO's figures are measured too: `always`, on `test` data only (they take longer than VOC's:
            seconds for a hundred images) or `never`.
        shown_score: the least score of detections in pictures.

    Raises:
        ConfigError: a network that does not fit the data, a batch larger than the training set.
    """

    metric = Metric("map_50", higher_is_better=True, unit="%")
    fixed_shapes = False
    data: DetectionData

    def __init__(
        self,
        *,
        data: DetectionData,
        networks: Mapping[str, Callable[..., nn.Module]],
        batch_size: int,
        seed: int,
        eval_batch_size: int = 8,
        coco: Literal["always", "test", "never"] = "test",
        shown_score: float = 0.5,
    ) -> None:
        check_data(data, DetectionData, task="detection", such_as="shapes, voc2007, voc_layout")
        if coco not in ("always", "test", "never"):
            raise ConfigError("task.factory.coco", coco, "always, test or never")
        self.eval_batch_size, self.coco, self.shown_score = eval_batch_size, coco, shown_score
        built = build_networks(networks, {DETECTOR: {"classes": len(data.classes)}}, task="detection", seed=seed)
        super().__init__(data=data, samples=len(data.train), networks=built, batch_size=batch_size, seed=seed)
        self.network = built[DETECTOR]
        name = type(self.network).__name__
        found = outcome(name, self.network, self.sample().images)
        fits = isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)
        if not fits or not {"boxes", "labels", "scores"} <= found[0].keys():
            allowed = f"has to return boxes, labels and scores for each image; it returns {type(found).__name__}"
            raise ConfigError("model", name, allowed)

    def updates(self, batch: DetectionBatch) -> Iterator[tuple[str, Tensor]]:
        """One update.

        The detector draws anchors and regions from torch's global generators. These are seeded from the batch and then
        restored, so that the draws depend on the step and the network only, not on earlier draws.
        """
        device = self.data.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(batch.seed))
            losses = self.network(batch.images, batch.targets)
        yield DETECTOR, torch.stack([*losses.values()]).sum()

    def infer(self, batch: DetectionBatch) -> None:
        """Detects in evaluation mode, which passes every part of the network.

        Few images at a time, so that memory does not limit the size of calibration batches.
        """
        with evaluating(self.networks()):
            for start in range(0, len(batch.images), self.eval_batch_size):
                self.network(batch.images[start : start + self.eval_batch_size])

    def sample(self) -> DetectionBatch:
        """The first training image."""
        return self.data.batch(self.data.train[:1])

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """All in percent: `map_50`, VOC's mean of the classes' average precisions (all points, difficult objects
        ignored); `ap_50_<class>`; if requested, COCO's `coco_map` (overlaps of 0.50 to 0.95) and `coco_map_75`.
        """
        detections: list[Target] = []
        targets: list[Target] = []
        for batch in self.data.evaluation(split, batch_size=self.eval_batch_size):
            detections += [{name: value.cpu() for name, value in found.items()} for found in self._detect(batch)]
            targets += [{name: value.cpu() for name, value in target.items()} for target in batch.targets]
        precisions = voc_average_precisions(detections, targets, classes=len(self.data.classes))
        by_class = {
            f"ap_50_{_plain(name)}": 100 * value
            for name, value in zip(self.data.classes, precisions, strict=True)
            if value is not None
        }
        mean = sum(by_class.values()) / len(by_class) if by_class else 0.0
        measured = {"map_50": mean, **by_class}
        if self.coco == "always" or self.coco == split:
            measured |= _coco(detections, targets)
        return measured

    def pictures(self) -> Mapping[str, Tensor]:
        """The first test images with detected boxes, classes and scores, and with the annotated ones."""
        scenes, names = self.data.test[:PICTURES], self.data.classes
        batch = self.data.batch(scenes)
        shown = {}
        for scene, found, target in zip(scenes, self._detect(batch), batch.targets, strict=True):
            scale = max(1, -(-PICTURE_SIDE // min(scene.size)))
            image = resize(scene.pixels().cpu(), [scale * side for side in scene.size])
            sure = found["scores"] >= self.shown_score
            labels, scores = found["labels"][sure].tolist(), found["scores"][sure].tolist()
            texts = [f"{names[label - 1]} {score:.0%}" for label, score in zip(labels, scores, strict=True)]
            detected = with_boxes(image, scale * found["boxes"][sure].cpu(), labels=labels, texts=texts)
            labels = target["labels"].tolist()
            texts = [names[label - 1] for label in labels]
            annotated = with_boxes(image, scale * target["boxes"].cpu(), labels=labels, texts=texts)
            shown[f"{scene.name}__detected__annotated"] = side_by_side([detected, annotated])
        return shown

    def _detect(self, batch: DetectionBatch) -> Sequence[Target]:
        with evaluating(self.networks()):
            found: Sequence[Target] = self.network(batch.images)
        return found


def _coco(detections: Sequence[Target], targets: Sequence[Target]) -> dict[str, float]:
    """COCO's mean average precisions in percent; difficult objects are passed as crowds, which are ignored."""
    from torchmetrics.detection import MeanAveragePrecision  # slow to import

    metric = MeanAveragePrecision(backend="pycocotools")
    crowds = [{"boxes": t["boxes"], "labels": t["labels"], "iscrowd": t["difficult"].long()} for t in targets]
    metric.update([dict(found) for found in detections], crowds)
    values = metric.compute()
    measured = {"coco_map": values["map"].item(), "coco_map_75": values["map_75"].item()}
    return {name: 100 * max(value, 0.0) for name, value in measured.items()}  # −1: no objects


def _plain(name: str) -> str:
    """A class name as part of a metric's name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
