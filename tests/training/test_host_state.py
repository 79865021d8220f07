"""A captured step trains as an eager one, also where an optimizer or a network keeps more than zeros on the device."""

import logging

import pytest
import torch
from recorded import CPU, captured, run, same
from torch import Tensor, nn
from torch.optim import ASGD, SGD, Adadelta, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop
from torch.utils._pytree import tree_leaves

from qp_runner.training import SharedStep
from qp_runner.training.executors import make_capturable
from qp_runner.training.optim import starts_at_zero
from tiny import tiny

OTHER = ["~trainer.optimizer.momentum", "~trainer.optimizer.weight_decay", "schedule=p_q_wf", "trainer.epochs=2"]
OPTIMIZERS = {
    "dampening": ["trainer.optimizer.lr=0.01", "+trainer.optimizer.dampening=0.5", "schedule=p_q_wf"],
    **{name: [f"trainer.optimizer._target_=other_optimizers.{name}", *OTHER] for name in ("Descent", "FromOne")},
}
UNREPEATABLE = {
    **{name: [f"trainer.optimizer._target_=other_optimizers.{name}", *OTHER] for name in ("Counting", "Replacing")},
    "Draws": [
        "model.networks.network._target_=drawn_networks.Draws",
        "~model.networks.network.width",
        "trainer.epochs=2",
    ],
}
REASONS = {"Counting": "optimizer network, count", "Replacing": "optimizer network, mean", "Draws": "Python's random"}


def trained(overrides: list[str], *, graph: bool) -> tuple[bool, list[Tensor]]:
    """Whether a job captured its step, and the weights it ended with."""
    trainer, parts, _ = tiny("classification", *overrides)
    step = captured(trainer, None) if graph else None
    if step is None:
        for optimizer in trainer.state.optimizers.values():
            make_capturable(optimizer, CPU)  # fused kernels add up in another order
    trainer.run()
    weights = [each.detach() for network in parts.task.networks().values() for each in network.parameters()]
    return step is not None and step.captured, weights


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_state_starts_as_it_does_without_a_capture(name: str) -> None:
    (was_captured, found), (_, expected) = (trained(OPTIMIZERS[name], graph=graph) for graph in (True, False))
    assert was_captured
    assert all(torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6) for mine, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_taken_over_with_any_optimizers_state(name: str) -> None:
    shared = SharedStep()
    run("classification", *OPTIMIZERS[name], "seed=3", shared=shared)
    left = shared._left
    assert left is not None
    found = run("classification", *OPTIMIZERS[name], shared=shared)
    assert shared._left is left
    same(found, run("classification", *OPTIMIZERS[name], shared=None))


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_a_step_that_changes_what_is_not_on_the_device_is_not_captured(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (was_captured, found), (_, expected) = (trained(UNREPEATABLE[name], graph=graph) for graph in (True, False))
    assert not was_captured
    assert f"each step changes {REASONS[name]}" in caplog.text
    assert all(torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6) for mine, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", [SGD, Adadelta, Adam, Adamax, AdamW, RAdam, RMSprop, NAdam, ASGD, Rprop])
def test_which_optimizers_start_at_zero(kind: type[Optimizer]) -> None:
    """Where nothing has a gradient, only counters leave zero in the first step (and what an epsilon is added to)."""
    layer = nn.Linear(2, 2)
    settings = {"momentum": 0.9} if kind in (SGD, RMSprop) else {}
    optimizer = kind(layer.parameters(), **settings)  # type: ignore[call-arg]
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    known = starts_at_zero(optimizer)
    optimizer.step()
    state = [value for each in optimizer.state.values() for key, value in each.items() if key != "step"]
    assert state
    assert known == (not any(torch.any(torch.as_tensor(value).abs() > 1e-6) for value in tree_leaves(state)))
