from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from qp_runner.errors import ConfigError
from qp_runner.training import LearningRate, build_optimizers
from qp_runner.training.checkpoint_file import decode, encode
from qp_runner.training.learning_rates import LearningRates


def two_groups() -> dict[str, torch.optim.Optimizer]:
    """One optimizer of two groups with the rates 0.1 and 0.01."""
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr_scale": 0.1}]
    return build_optimizers({"network": groups}, lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9))


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedulers.CosineAnnealingLR(o, T_max=8),
        lambda o: schedulers.OneCycleLR(o, max_lr=[0.1, 0.01], total_steps=8),
        lambda o: schedulers.SequentialLR(
            o, [schedulers.LinearLR(o, 0.1, total_iters=3), schedulers.ExponentialLR(o, 0.5)], [3]
        ),
        lambda o: schedulers.LambdaLR(o, lambda step: np.cos(step / 8)),
    ],
)
def test_rates_are_those_of_torch_and_go_on_where_a_stored_state_was(make: Callable[..., Any]) -> None:
    optimizers, expected, got = two_groups(), [], []
    alone = make(optimizers["network"])
    for _ in range(8):
        expected.append([group["lr"] for group in optimizers["network"].param_groups])
        optimizers["network"].step()
        alone.step()
    optimizers = two_groups()
    rates = LearningRates(optimizers, LearningRate(make, "step"))
    for step in range(8):
        if step == 4:
            state = decode(encode({"rates": rates.state_dict(), "optimizer": optimizers["network"].state_dict()}))
            optimizers = two_groups()
            rates = LearningRates(optimizers, LearningRate(make, "step"))
            optimizers["network"].load_state_dict(state["optimizer"])
            rates.load_state_dict(state["rates"])
            assert rates.last == got[-1][0]
        got.append([group["lr"] for group in optimizers["network"].param_groups])
        optimizers["network"].step()
        rates.after("step")
        assert rates.last == got[-1][0]
    assert got == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (schedulers.ReduceLROnPlateau, "=ReduceLROnPlateau: a learning-rate schedule whose step.. needs no argument"),
        (
            lambda o: schedulers.OneCycleLR(o, max_lr=0.1, total_steps=8),
            "=OneCycleLR: gives all parameters one rate, but the task has groups with 0.1 and 0.01: a list of one",
        ),
        (
            lambda o: schedulers.CyclicLR(o, base_lr=0.01, max_lr=0.1),
            "=CyclicLR: gives all parameters one rate",
        ),
        (
            lambda o: schedulers.OneCycleLR(o, max_lr=[0.1, 0.01], total_steps=2),
            "=OneCycleLR: Tried to step 3 times. The specified number of total steps is 2",
        ),
    ],
)
def test_a_schedule_that_can_not_be_followed_is_refused(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^trainer\.lr_schedule\.factory" + message):
        follow(two_groups(), make, steps=3)


@pytest.mark.parametrize("cycle_momentum", [True, False])
def test_a_captured_step_can_not_follow_the_momentum(cycle_momentum: bool) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return schedulers.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=8, cycle_momentum=cycle_momentum)

    follow(two_groups(), make, steps=3)
    if cycle_momentum:
        with pytest.raises(
            ConfigError, match=r"=OneCycleLR: changes momentum, which a captured step .* cycle_momentum"
        ):
            follow(two_groups(), make, steps=3, captured=True)
    else:
        follow(two_groups(), make, steps=3, captured=True)


def test_a_captured_step_can_not_follow_any_other_setting() -> None:
    class Sharpening(schedulers.LambdaLR):
        def step(self, epoch: int | None = None) -> None:
            super().step(epoch)
            for group in self.optimizer.param_groups:
                group["eps"] *= 0.5

    def adam() -> dict[str, torch.optim.Optimizer]:
        return {"network": torch.optim.Adam(nn.Linear(2, 2).parameters())}

    def make(optimizer: torch.optim.Optimizer) -> Any:
        return Sharpening(optimizer, lambda step: 1.0)

    follow(adam(), make, steps=2)
    with pytest.raises(
        ConfigError, match=r"=Sharpening: changes eps, which a captured step can.t follow: trainer\.exec"
    ):
        follow(adam(), make, steps=2, captured=True)


def follow(
    optimizers: dict[str, torch.optim.Optimizer], make: Callable[..., Any], *, steps: int, captured: bool = False
) -> None:
    rates = LearningRates(optimizers, LearningRate(make, "step"))
    for group in optimizers["network"].param_groups if captured else ():
        group["lr"] = torch.tensor(group["lr"])
    for _ in range(steps):
        optimizers["network"].step()
        rates.after("step")
