import pytest
import torch
from torch import nn

from qp_runner.metric import Metric
from qp_runner.tasks import Task, evaluating


def test_utility_is_the_metric_or_its_reciprocal():
    assert Metric("accuracy", higher_is_better=True, unit="%").utility(92.6) == 92.6
    assert Metric("fid", higher_is_better=False).utility(4.0) == 0.25


def test_a_task_has_to_say_everything():
    with pytest.raises(TypeError, match="abstract"):
        Task()


def test_evaluating_restores_each_modules_own_mode():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    network.train()
    network[1].eval()  # a frozen batch norm stays frozen
    before = [module.training for module in network.modules()]
    with evaluating({"network": network}):
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in network.modules()] == before
    assert torch.is_grad_enabled()


def test_evaluating_restores_after_an_error():
    network = nn.Linear(2, 2)
    with pytest.raises(RuntimeError), evaluating({"network": network}):
        raise RuntimeError
    assert network.training
    assert torch.is_grad_enabled()


class TwoPlayers(Task):
    """Two optimizers in one step: what follows a yield runs after that optimizer's step."""

    metric = Metric("distance", higher_is_better=False)
    steps_per_epoch = 3

    def __init__(self):
        self.made, self.judge, self.seen = nn.Linear(1, 1), nn.Linear(1, 1), []

    def networks(self):
        return {"generator": self.made, "discriminator": self.judge}

    def compressible(self):
        return {"generator": self.made}

    def parameter_groups(self):
        return {name: [{"params": list(network.parameters())}] for name, network in self.networks().items()}

    def updates(self, batch):
        fake = self.made(batch)
        yield "generator", (self.judge(fake) - 1).square().mean()
        self.seen.append(self.made.weight.item())
        yield "discriminator", self.judge(fake.detach()).square().mean()

    def batches(self, epoch):
        return iter(torch.ones(3, 4, 1))

    def calibration_batches(self, *, samples, batch_size):
        return iter(torch.ones(1, samples, 1))

    def infer(self, batch):
        self.made(batch)

    def sample(self):
        return torch.ones(1, 1)

    def evaluate(self, split):
        return {"distance": 1.0}

    def to(self, device):
        for network in self.networks().values():
            network.to(device)


def test_a_task_with_two_optimizers_fits_the_interface():
    torch.manual_seed(0)
    task = TwoPlayers()
    optimizers = {name: torch.optim.SGD(groups, lr=0.1) for name, groups in task.parameter_groups().items()}
    start = task.made.weight.item()
    names = []
    for batch in task.batches(0):
        for name, loss in task.updates(batch):
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            names.append(name)
    assert names == ["generator", "discriminator"] * task.steps_per_epoch
    assert task.seen[0] != start  # the generator had stepped before the discriminator's loss
    assert task.compressible().keys() < task.networks().keys()
