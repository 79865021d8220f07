import torch
from torch import nn

from qp_runner.training import build_optimizers


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
