"""Data and a task for networks that are not this package's own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qp_runner.data import ImageData, ImageSet
from qp_runner.metric import Metric
from qp_runner.tasks import Task
from qp_runner.tasks.base import evaluating
from qp_runner.tasks.networks import build_networks

CLASSES = 5


def noise(size: int = 32, train: int = 12) -> ImageData:
    """Colour images of noise."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> ImageSet:
        pixels = torch.randint(256, (count, 3, size, size), generator=generator).to(torch.uint8)
        return ImageSet(pixels, torch.arange(count) % CLASSES)

    return ImageData(
        train=images(train),
        val=images(4),
        test=images(4),
        classes=tuple(map(str, range(CLASSES))),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
    )


class Tokens:
    """Sequences of tokens, each with a class; batches are pairs of them."""

    def __init__(self, vocabulary: int = 40, length: int = 6, train: int = 12) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(vocabulary, (train, length), generator=generator)
        self.labels = self.tokens.sum(1) % CLASSES

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.tokens), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for part in order.split(batch_size)[: len(order) // batch_size]:
            yield self.tokens[part], self.labels[part]

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.arange(min(samples, len(self.tokens))).split(batch_size):
            yield self.tokens[part], self.labels[part]

    def to(self, device: torch.device) -> "Tokens":
        self.tokens, self.labels = self.tokens.to(device), self.labels.to(device)
        return self


class TokenTask(Task):
    """Classifies sequences; trains, validates and tests on the same ones."""

    metric = Metric("accuracy", higher_is_better=True, unit="%")

    def __init__(
        self, *, data: Tokens, networks: Mapping[str, Callable[..., nn.Module]], batch_size: int, seed: int
    ) -> None:
        built = build_networks(networks, {"network": {"classes": CLASSES}}, task="tokens", seed=seed)
        super().__init__(data=data, samples=len(data.tokens), networks=built, batch_size=batch_size, seed=seed)

    def logits(self, tokens: Tensor) -> Tensor:
        made = self.networks()["network"](tokens)
        logits: Tensor = made if isinstance(made, Tensor) else made.logits
        return logits

    def updates(self, batch: Any) -> Iterator[tuple[str, Tensor]]:
        yield "network", F.cross_entropy(self.logits(batch[0]), batch[1])

    def infer(self, batch: Any) -> None:
        self.logits(batch[0])

    def sample(self) -> Any:
        return self.data.tokens[:1], self.data.labels[:1]

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        with evaluating(self.networks()):
            logits = self.logits(self.data.tokens)
            right = (logits.argmax(1) == self.data.labels).float().mean()
            return {"accuracy": 100 * right.item(), "loss": F.cross_entropy(logits, self.data.labels).item()}


class Recurrent(nn.Module):
    """A bidirectional LSTM over embeddings."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 12)
        self.lstm = nn.LSTM(12, 10, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.head = nn.Linear(20, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of [n, length] tokens."""
        logits: Tensor = self.head(self.lstm(self.embedding(tokens))[0].mean(1))
        return logits


def bert(classes: int) -> nn.Module:
    """A tiny BERT of `transformers` with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    made: nn.Module = BertForSequenceClassification(BertConfig(vocab_size=40, num_labels=classes, **sizes))
    return made
