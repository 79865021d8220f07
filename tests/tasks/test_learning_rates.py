"""In the published recipes every layer learns at the configured rate: none of the five scales a layer's."""

import pytest

from tiny import TINY, tiny, tiny_config


@pytest.mark.parametrize("task", TINY)
def test_all_parameters_learn_at_the_configured_rate(task: str) -> None:
    trainer, parts, _ = tiny(task)
    configured = tiny_config(task).trainer.optimizer["lr"]
    groups = [group for each in trainer.state.optimizers.values() for group in each.param_groups]
    assert {group["initial_lr"] if "initial_lr" in group else group["lr"] for group in groups} == {configured}
    learning = {id(each) for network in parts.task.networks().values() for each in network.parameters()}
    assert {id(each) for group in groups for each in group["params"]} == learning
