import copy
import pickle

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.attach import is_compressed
from qp_runner.schedule import Op, Target


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_a_baked_network_is_plain_and_equal_to_the_last_bit(build, attach, stage, passes, images, scale, granularity):
    network = build().eval()
    compressor = attach(network, scale=scale, granularity=granularity, unpruned=("0.weight",))
    compressor.enter(stage(0.5, 5), run=passes(network))
    baked = compressor.bake(network)
    assert torch.equal(baked(images(50, seed=4)), network(images(50, seed=4)))
    assert [type(module) for module in baked.modules()] == [type(module) for module in build().modules()]
    copy = pickle.loads(pickle.dumps(baked))
    assert torch.equal(copy(images()), network(images()))


def test_baking_changes_nothing_about_the_network(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    expected = network.eval()(images())
    baked = compressor.bake(network)
    with torch.no_grad():
        baked[0].weight.zero_()
    del baked
    assert torch.equal(network(images()), expected)
    assert is_compressed(type(network[0]))
    compressor.detach()
    assert list(network.state_dict()) == list(build().state_dict())


def test_without_events_a_baked_network_is_a_copy(build, attach):
    network = build()
    baked = attach(network).bake(network)
    assert str(baked) == str(build())
    assert list(baked.state_dict()) == list(build().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(baked.parameters(), build().parameters(), strict=True))


def test_a_baked_network_can_be_scripted_and_exported(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    baked = compressor.bake(network)
    exported = torch.export.export(baked, (images(2),)).module()
    assert torch.equal(exported(images(2)), network(images(2)))


def test_activations_only(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(fires={(Op.QUANTIZE, Target.ACTIVATION)}), run=passes(network))
    assert torch.equal(compressor.bake(network)(images()), network(images()))


def shared() -> nn.Module:
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(6, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 3))


class ReadsItsChild(nn.Module):
    """Reads attributes of a module that is an activation site, and calls it with two arguments, one by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.join = nn.Linear(6, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.0)), Join()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.conv(x) * self.conv.weight.abs().mean())
        return self.join(y, other=y * len(self.pool))


class Join(nn.Module):
    def forward(self, x: torch.Tensor, *, other: torch.Tensor) -> torch.Tensor:
        return x + other


def hooked() -> nn.Module:
    network = shared()
    network[0].register_forward_hook(lambda _m, _a, output: output * 1.37)
    network[1].register_forward_hook(lambda _m, _a, output: output + 0.01)
    return network


@pytest.mark.parametrize(
    ("make", "activation"),
    [
        (shared, ("*",)),
        (shared, ("3",)),  # the second name of module 1
        (ReadsItsChild, ("conv", "pool", "join")),
        (hooked, ("*",)),
    ],
)
@pytest.mark.parametrize("later_hooks", [False, True])
def test_baking_keeps_every_module_and_what_is_done_with_it(stage, make, activation, later_hooks):
    torch.manual_seed(0)
    network, x = make().eval(), torch.randn(32, 6)
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), activation), settings=Settings())
    if later_hooks:
        for module in network.children():
            module.register_forward_hook(lambda _m, _a, output: torch.tanh(output))
    compressor.trace(lambda: network(x[:1]))
    compressor.enter(stage(0.4, 3), run=lambda: network(x))
    baked = compressor.bake(network)
    assert torch.equal(baked(x), network(x))
    compressor.detach()
    assert not torch.equal(baked(x), network(x))


def test_a_network_that_is_itself_a_site_is_baked(stage):
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    whole, x = nn.Sequential(part, nn.Linear(4, 2)), torch.randn(16, 4)
    networks = {"part": part, "whole": whole}
    compressor = Compressor(networks, sites=SiteSelection(("*",), ("whole.0",)), settings=Settings())
    assert [site.path for site in compressor.sites(Target.WEIGHT)] == ["part.0.weight", "whole.1.weight"]
    compressor.enter(stage(0.5, 3), run=lambda: whole(x))
    for network in networks.values():
        assert torch.equal(compressor.bake(network)(x), network(x))


def test_a_baked_network_moves_and_saves_its_masks(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    baked = compressor.bake(network)
    again = compressor.bake(network)
    again.load_state_dict({key: torch.zeros_like(value) for key, value in again.state_dict().items()})
    again.load_state_dict(baked.state_dict())
    assert torch.equal(again(images()), network(images()))
    assert baked.to("meta").get_buffer("2.site_mask").is_meta


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


class CallsItsChildren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = torch.tanh(child(x))
        return x


@pytest.mark.parametrize(
    ("make", "activation"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 8), Doubled(), nn.ReLU(), nn.Linear(8, 3)), "1.add"),
        (CallsItsChildren, "tanh*"),
    ],
)
def test_a_network_that_calls_all_its_children_is_baked_with_the_results_of_its_functions(stage, make, activation):
    torch.manual_seed(0)
    network, x = make().eval(), torch.randn(32, 6)
    compressor = Compressor({"n": network}, run=lambda: network(x[:1]), sites=SiteSelection(("*",), (activation,)))
    compressor.trace(lambda: network(x[:1]))
    compressor.enter(stage(0.4, 3), run=lambda: network(x))
    baked = compressor.bake(network)
    assert torch.equal(baked(x), network(x))
    assert list(dict(baked.named_modules())) == list(dict(network.named_modules()))
    assert torch.equal(pickle.loads(pickle.dumps(baked))(x), network(x))
    moved = copy.deepcopy(baked).double()
    assert moved(x.double()).dtype == torch.float64
    again = compressor.bake(network)
    again.load_state_dict({key: torch.zeros_like(value) for key, value in again.state_dict().items()})
    again.load_state_dict(baked.state_dict())
    assert torch.equal(again(x), network(x))


class Remembers(nn.Module):
    """Keeps results of its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.seen = nn.Linear(6, 8), nn.Linear(8, 3), {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.hidden = torch.relu(self.first(x))
        self.seen["squared"] = [self.hidden**2]
        return self.last(self.hidden)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "make", [Remembers, lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))]
)
def test_a_network_that_keeps_results_is_baked_between_two_steps(stage, make):
    torch.manual_seed(0)
    network, x = make(), torch.randn(32, 6)
    compressor = Compressor({"n": network}, run=lambda: network(x[:1]))
    compressor.trace(lambda: network(x[:1]))
    compressor.enter(stage(0, 4, {(Op.QUANTIZE, Target.WEIGHT)}), run=lambda: network(x))
    network(x).sum().backward()
    assert torch.equal(compressor.bake(network)(x), network(x))
