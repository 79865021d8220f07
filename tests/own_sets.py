"""Data functions as a user writes them: a table, a regression, images with masks, tokens."""

from typing import Any

import numpy as np
import skimage.data
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from qp_runner.data import Items


def split(*tensors: Tensor) -> dict[str, TensorDataset]:
    order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(0))
    parts = order.split([len(order) - 120, 60, 60])
    return {
        name: TensorDataset(*(each[part] for each in tensors))
        for name, part in zip(("train", "val", "test"), parts, strict=True)
    }


def tumours() -> Items:
    """scikit-learn's breast cancer set: 30 columns, two classes."""
    table, labels = load_breast_cancer(return_X_y=True)
    table = (table - table.mean(0)) / table.std(0)
    return Items(**split(torch.from_numpy(table).float(), torch.from_numpy(labels)), classes=("malignant", "benign"))


def diabetes() -> dict[str, TensorDataset]:
    """scikit-learn's diabetes set: 10 columns, one number."""
    table, target = load_diabetes(return_X_y=True)
    return split(torch.from_numpy(table).float() * 20, torch.from_numpy(target).float() / 100)


class Coins(Dataset[Any]):
    """Pieces of a photograph of coins with masks; at random places in training."""

    def __init__(self, count: int, seed: int, *, moved: bool = False) -> None:
        image = torch.from_numpy(skimage.data.coins()).float() / 255
        self.image, self.mask = image, (image > 0.42).long()
        self.places = torch.from_numpy(np.random.default_rng(seed).integers(0, [230, 310], (count, 2)))
        self.moved = moved

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        top, left = (self.places[index] + (torch.randint(10, (2,)) if self.moved else 0)).tolist()
        image, mask = (each[top : top + 64, left : left + 64] for each in (self.image, self.mask))
        return {"image": image.expand(3, -1, -1), "mask": mask, "name": str(index)}


def coins() -> Items:
    return Items(Coins(24, 0, moved=True), Coins(6, 1), Coins(8, 2), classes=("ground", "coin"), workers=1)


class Tokens(Dataset[Any]):
    """Sequences of tokens, whose class is the sum's; as dictionaries."""

    def __init__(self, count: int, seed: int) -> None:
        self.tokens = torch.randint(30, (count, 6), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = self.tokens[index]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.sum() % 3}


def tokens() -> tuple[Tokens, Tokens, Tokens]:
    return Tokens(32, 0), Tokens(8, 1), Tokens(8, 2)


class Reader(nn.Module):
    """Takes tokens by argument; returns a dictionary."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, num_classes)
        self.hidden = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
        embedded = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        return {"loss": None, "logits": self.head(self.hidden(embedded.mean(1)))}
