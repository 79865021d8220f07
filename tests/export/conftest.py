from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.schedule import Op, Stage, Target, TargetState

EVERYTHING = frozenset((op, target) for op in Op for target in Target)


def _stage(sparsity: float = 0.5, bits: int = 8, fires: Iterable[tuple[Op, Target]] = EVERYTHING) -> Stage:
    state = TargetState(sparsity, bits)
    return Stage(0, 9, state, state, frozenset(fires))


def _compressed(
    network: nn.Module,
    x: torch.Tensor,
    *,
    sparsity: float = 0.5,
    bits: int = 8,
    fires: Iterable[tuple[Op, Target]] = EVERYTHING,
    sites: SiteSelection | None = None,
    **settings,
) -> Compressor:
    network.eval()
    compressor = Compressor(
        {"network": network},
        sites=sites or SiteSelection(None, None, ()),
        settings=Settings(**settings),
        run=lambda: network(x[:1]),
        pair=lambda: network(x[:2]),
    )
    compressor.trace(lambda: network(x[:1]), pair=lambda: network(x[:2]))
    compressor.enter(_stage(sparsity, bits, fires), run=lambda: network(x))
    return compressor


@pytest.fixture
def stage() -> Callable[..., Stage]:
    """Makes a stage at whose start everything fires."""
    return _stage


@pytest.fixture
def compressed() -> Callable[..., Compressor]:
    """Compresses all of a network, calibrated by a batch; puts it in evaluation mode."""
    return _compressed
