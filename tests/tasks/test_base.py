import pytest
import torch
from torch import nn

from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks import evaluating
from qp_runner.tasks.networks import build_networks


def test_utility_is_the_metric_or_its_reciprocal():
    assert Metric("accuracy", higher_is_better=True, unit="%").utility(92.6) == 92.6
    assert Metric("fid", higher_is_better=False).utility(4.0) == 0.25


def test_evaluating_restores_each_modules_own_mode_after_an_error_too():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    network[1].eval()  # a frozen batch norm stays frozen
    before = [module.training for module in network.modules()]
    with pytest.raises(RuntimeError), evaluating({"network": network}):  # noqa: PT012
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
        raise RuntimeError
    assert [module.training for module in network.modules()] == before
    assert torch.is_grad_enabled()


def test_networks_without_all_their_shapes_are_refused():
    def lazy():
        return nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(2))

    with pytest.raises(ConfigError, match=r"^model\.networks=1\.weight: has no shape: give this lazy module its sizes"):
        build_networks({"net": lazy}, {"net": {}}, task="mine", seed=0)
