"""Image classification."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.data import Batch, ImageData
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.checks import check_batch_size, check_data, check_networks, described, fitting
from qp_runner.tasks.networks import seeded

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
        check_networks(networks, [NETWORK], task="classification")
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise ConfigError("task.factory.label_smoothing", label_smoothing, "in [0, 1)")
        check_batch_size(batch_size, len(data.train), of="images")
        self.data, self.seed, self.batch_size = data, seed, batch_size
        self.label_smoothing, self.eval_batch_size = label_smoothing, eval_batch_size
        self.steps_per_epoch = len(data.train) // batch_size
        self.network = seeded(
            "model.networks.network", networks[NETWORK], seed=seed, in_channels=data.shape[0], classes=len(data.classes)
        )
        self._check_fit()

    def networks(self) -> Mapping[str, nn.Module]:
        """The classifier."""
        return {NETWORK: self.network}

    def parameter_groups(self) -> Mapping[str, list[dict[str, Any]]]:
        """All parameters in one group."""
        return {NETWORK: [{"params": list(self.network.parameters())}]}

    def updates(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """One update."""
        logits = self.network(batch.images)
        yield NETWORK, F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Shuffled, augmented training batches."""
        return self.data.epoch(epoch, batch_size=self.batch_size, seed=self.seed)

    def calibration_batches(self, *, samples: int, batch_size: int) -> Iterator[Batch]:
        """Unaugmented training images."""
        return self.data.calibration(samples=samples, batch_size=batch_size, seed=self.seed)

    def infer(self, batch: Batch) -> None:
        """A forward pass."""
        self.network(batch.images)

    def sample(self) -> Batch:
        """The first training image."""
        return self.data.normalise(self.data.train.take(slice(1)))

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """Accuracy in percent and mean cross entropy (without smoothing)."""
        sums = torch.zeros(2, device=self.data.mean.device)  # right answers, loss: read once at the end
        on_cpu = self.data.train.images.device.type == "cpu"
        batch_size = self.eval_batch_size or (50 if on_cpu else 500)
        with evaluating(self.networks()):
            for images, labels in self.data.evaluation(split, batch_size=batch_size):
                logits = self.network(images).float()
                right = (logits.argmax(1) == labels).sum()
                sums += torch.stack([right, F.cross_entropy(logits, labels, reduction="sum")])
        right_answers, loss = sums.tolist()
        count = len(self.data.val if split == "val" else self.data.test)
        return {"accuracy": 100 * right_answers / count, "loss": loss / count}

    def to(self, device: torch.device) -> None:
        """Moves the network and the data."""
        self.network.to(device)
        self.data = self.data.to(device)

    def _check_fit(self) -> None:
        shape, classes = "×".join(map(str, self.data.shape)), len(self.data.classes)
        name = type(self.network).__name__
        with evaluating(self.networks()):
            logits = fitting(name, f"the data's images of {shape}", lambda: self.network(self.sample().images))
        if not isinstance(logits, Tensor) or logits.shape != (1, classes):
            made = described(logits)
            raise ConfigError("model", name, f"has to return [n, {classes}] for images of {shape}; it returns {made}")
