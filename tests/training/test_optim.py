from typing import Any

import pytest
import torch
from torch import nn

from qp_runner.training import build_optimizers, constant_then_linear


def test_a_groups_lr_scale_multiplies_the_configured_learning_rate() -> None:
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": layers[0].parameters()}, {"params": layers[1].parameters(), "lr_scale": 0.1}]
    [optimizer] = build_optimizers({"network": groups}, lambda g: torch.optim.Adam(g, lr=1e-3)).values()
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-4]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_each_name_gets_an_optimizer_of_its_own() -> None:
    groups = {name: [{"params": nn.Linear(1, 1).parameters()}] for name in ("generator", "discriminator")}
    built = build_optimizers(groups, lambda g: torch.optim.SGD(g, lr=0.1))
    assert list(built) == ["generator", "discriminator"]
    assert built["generator"] is not built["discriminator"]


def test_constant_then_linear_is_the_published_learning_rate() -> None:
    """Epochs 1 to 200 at the configured rate, then a straight line that would reach 0 after epoch 300."""
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=2e-4)
    schedule = constant_then_linear(optimizer, constant=0.6667, total=300)
    rates = []
    for _ in range(300):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:200] == [2e-4] * 200
    expected = [2e-4 * (1 - n / 101) for n in range(1, 101)]
    assert rates[200:] == pytest.approx(expected)
    assert rates[-1] > 0


@pytest.mark.parametrize(
    "arguments", [{"constant": -0.1, "total": 3}, {"constant": 1.1, "total": 3}, {"constant": 0.5, "total": 0}]
)
def test_an_impossible_learning_rate_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="constant="):
        constant_then_linear(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0), **arguments)
