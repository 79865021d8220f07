"""Image classification."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.data import Batch, ImageData
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.checks import check_data, check_shape
from qp_runner.tasks.networks import build_networks

NETWORK = "network"


class ClassificationTask(Task):
    """One network, cross entropy, accuracy in percent.

    Args:
        data: the images.
        networks: `network` builds the classifier from `in_channels` and `classes`.
        batch_size: training images per step.
        seed: decides initial weights, data order, augmentation and calibration samples.
        label_smoothing: of the training loss, in [0, 1).
        eval_batch_size: images per batch in evaluation. None: 50 on a CPU (for MobileNetV2 2.2 times faster than 500,
            which exceeds the caches), 500 elsewhere.

    Raises:
        ConfigError: a network that does not fit the data, a batch larger than the training set.
    """

    metric = Metric("accuracy", higher_is_better=True, unit="%")
    teachable = True
    data: ImageData

    def __init__(
        self,
        *,
        data: ImageData,
        networks: Mapping[str, Callable[..., nn.Module]],
        batch_size: int,
        seed: int,
        label_smoothing: float = 0.0,
        eval_batch_size: int | None = None,
    ) -> None:
        check_data(data, ImageData, task="classification", such_as="digits, cifar10")
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise ConfigError("task.factory.label_smoothing", label_smoothing, "in [0, 1)")
        self.label_smoothing, self.eval_batch_size = label_smoothing, eval_batch_size
        self.network_arguments = {"in_channels": data.shape[0], "classes": len(data.classes)}
        built = build_networks(networks, {NETWORK: self.network_arguments}, task="classification", seed=seed)
        super().__init__(data=data, samples=len(data.train), networks=built, batch_size=batch_size, seed=seed)
        self.network = built[NETWORK]
        check_shape(type(self.network).__name__, self.network, self.sample().images, (1, len(data.classes)))

    def updates(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """One update."""
        logits = self.network(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        yield NETWORK, loss if self.teacher is None else self.teacher(loss, logits, lambda each: each(batch.images))

    def infer(self, batch: Batch) -> None:
        """A forward pass."""
        self.network(batch.images)

    def sample(self) -> Batch:
        """The first training image."""
        return self.data.sample()

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """Accuracy in percent and mean cross entropy (without smoothing)."""
        sums = torch.zeros(2, device=self.data.mean.device)  # right answers, loss: read once at the end
        batch_size = self.eval_batch_size or (50 if sums.device.type == "cpu" else 500)
        with evaluating(self.networks()):
            for images, labels in self.data.evaluation(split, batch_size=batch_size):
                logits = self.network(images).float()
                right = (logits.argmax(1) == labels).sum()
                sums += torch.stack([right, F.cross_entropy(logits, labels, reduction="sum")])
        right_answers, loss = sums.tolist()
        count = len(self.data.val if split == "val" else self.data.test)
        return {"accuracy": 100 * right_answers / count, "loss": loss / count}
