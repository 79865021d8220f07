from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.schedule import Op, Stage, Target, TargetState

EVERYTHING = frozenset((op, target) for op in Op for target in Target)


def _build(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(5 * 3 * 3, 4),
    )


def _images(n: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


def _stage(sparsity: float = 0.5, bits: int = 8, fires: Iterable[tuple[Op, Target]] = EVERYTHING) -> Stage:
    state = TargetState(sparsity, bits)
    return Stage(0, 9, state, state, frozenset(fires))


def _attach(network: nn.Module, *, unpruned: tuple[str, ...] = (), activation=("2", "5"), **settings) -> Compressor:
    sites = SiteSelection(weight=("*",), activation=activation, unpruned=unpruned)
    return Compressor({"network": network}, sites=sites, settings=Settings(**settings))


def _passes(network: nn.Module, size: int = 8) -> Callable[[], None]:
    def run() -> None:
        for batch in _images().split(size):
            network(batch)

    return run


@pytest.fixture
def build() -> Callable[..., nn.Sequential]:
    """Builds a small network: sites 0.weight, 3.weight, 8.weight; 2, 5."""
    return _build


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    return _images


@pytest.fixture
def stage() -> Callable[..., Stage]:
    """Makes a stage at whose start everything fires."""
    return _stage


@pytest.fixture
def attach() -> Callable[..., Compressor]:
    """Attaches a compressor to a small network."""
    return _attach


@pytest.fixture
def passes() -> Callable[..., Callable[[], None]]:
    """Makes a `run` that passes 24 images through a network."""
    return _passes


def _train(network, steps, *, seed=5):
    """SGD steps on random batches that depend on the seed only; returns the losses."""
    random_batches = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    losses = []
    for _ in range(steps):
        x, y = torch.randn(8, 2, 8, 8, generator=random_batches), torch.randint(4, (8,), generator=random_batches)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def train() -> Callable[..., list[float]]:
    """Trains a network for some steps."""
    return _train


@pytest.fixture
def state_equal() -> Callable[..., bool]:
    """Compares two dictionaries of tensors, bit for bit."""
    return _equal
