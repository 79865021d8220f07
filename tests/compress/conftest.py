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
