"""What a captured step takes for good from its job: another job must have the same to take the step over."""

import gc
import weakref

import pytest
import torch
from recorded import TASKS, captured, run, same

from qp_runner.run.shared_steps import step_key
from qp_runner.training import SharedStep
from qp_runner.training.fixed_values import differing, fixed_values
from qp_runner.training.shared_step import Captured
from tiny import tiny, tiny_config


def network(name: str, seed: int) -> list[str]:
    chosen = [f"model.networks.network._target_=drawn_networks.{name}", "~model.networks.network.width"]
    return [*chosen, f"seed={seed}", "schedule=p_q_wf", "trainer.epochs=2"]


@pytest.mark.parametrize("name", ["Number", "Layer", "Hook", "InSlots", "OneOrTwo"])
def test_what_is_drawn_beside_the_weights_is_the_jobs_own(name: str) -> None:
    first, second = network(name, 1), network(name, 3)
    assert step_key(tiny_config("classification", *first)) == step_key(tiny_config("classification", *second))
    shared = SharedStep()
    run("classification", *first, shared=shared)
    same(run("classification", *second, shared=shared), run("classification", *second, shared=None))


def test_a_setting_that_an_optimizer_makes_of_its_rate_is_the_jobs_own() -> None:
    def job(rate: float) -> list[str]:
        chosen = ["trainer.optimizer._target_=other_optimizers.Shrinking", f"trainer.optimizer.lr={rate}"]
        return [*chosen, "~trainer.optimizer.momentum", "~trainer.optimizer.weight_decay", "trainer.epochs=2"]

    shared = SharedStep()
    run("classification", *job(0.02), shared=shared)
    same(run("classification", *job(0.01), shared=shared), run("classification", *job(0.01), shared=None))


@pytest.mark.parametrize("task", TASKS)
def test_jobs_of_other_seeds_schedules_and_rates_have_the_same(task: str) -> None:
    jobs = [["schedule=p_q_wf"], ["schedule=q_w", "seed=5", "trainer.optimizer.lr=0.002"]]
    found = []
    for job in jobs:
        trainer, parts, _ = tiny(task, *TASKS[task], *job)
        found.append(fixed_values(parts.task, trainer.state.optimizers))
    assert len(found[0]) > 100
    assert differing(*found) == ""


def test_the_first_difference_is_named() -> None:
    assert differing({"a": 1, "b": 2}, {"a": 1, "b": 3}) == "b"
    assert differing({"a": 1}, {"a": 1, "c": 2}) == "c"


def test_a_tensor_outside_of_the_device_has_to_have_the_same_elements() -> None:
    """Its elements may be numbers in the step."""

    def taken(elements: float) -> bool:
        shared = SharedStep()
        loss = torch.zeros((), device="meta")
        shared.leave(Captured(lambda: None, None, loss, {"gain": torch.tensor(1.5)}, {}, {}))
        return shared.take({"gain": torch.tensor(elements)}, {}, fixed={}, fits=lambda _: True) is not None

    assert taken(1.5)
    assert not taken(2.5)


def test_a_tensor_whose_elements_lie_on_each_other_is_not_written_to() -> None:
    shared = SharedStep()
    held = torch.ones(1).expand(4)
    shared.leave(Captured(lambda: None, None, torch.zeros(()), {"ones": held}, {}, {}))
    assert shared.take({"ones": torch.ones(1).expand(4)}, {}, fixed={}, fits=lambda _: True) is None


def test_a_step_that_is_left_keeps_nothing_that_it_does_not_read() -> None:
    shared = SharedStep()
    trainer, parts, _ = tiny("classification", *TASKS["classification"])
    parts.task.evaluated = torch.zeros(3)  # type: ignore[attr-defined]
    step = captured(trainer, shared)
    trainer.run()
    assert step.captured
    step.hand_on()
    task, evaluated = weakref.ref(parts.task), weakref.ref(parts.task.evaluated)  # type: ignore[attr-defined]
    del trainer, parts, step
    gc.collect()
    assert shared._left is not None
    assert task() is None
    assert evaluated() is None
