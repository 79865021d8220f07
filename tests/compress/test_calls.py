"""One site for every call: names, independence, copies, and networks that compute what they did."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.attach import is_compressed
from qp_runner.compress.survey import survey
from qp_runner.schedule import Op, Stage, Target, TargetState

EVERYTHING = frozenset((op, target) for op in Op for target in Target)


class Block(nn.Module):
    """A ReLU called twice, functions, an addition, a concatenation, dropout by function."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm(self.a(x)))
        y = F.dropout(self.b(y), 0.3, self.training)
        y += x
        return torch.cat([self.relu(y), F.silu(1 - y)], 1)


class Network(nn.Module):
    """Two blocks that are called in a loop, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.mix, self.head = Block(), nn.Linear(12, 6), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor, loops: int = 2) -> torch.Tensor:
        for _ in range(loops - 1):
            x = torch.tanh(self.mix(self.block(x)))
        return self.head(F.relu(self.block(x)))


def rows(n: int = 16) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1))


def attached(network: nn.Module, activation=None, x: torch.Tensor | None = None, **selection) -> Compressor:
    x = rows() if x is None else x
    sites = SiteSelection(None, activation, selection.pop("unpruned", None), **selection)
    compressor = Compressor(
        {"n": network}, sites=sites, settings=Settings(), run=lambda: network(x[:1]), pair=lambda: network(x[:2])
    )
    compressor.trace(lambda: network(x[:1]), pair=lambda: network(x[:2]))
    return compressor


def fire(compressor: Compressor, network: nn.Module, x: torch.Tensor | None = None, bits: int = 8) -> None:
    state = TargetState(0.5, bits)
    compressor.enter(Stage(0, 9, state, state, EVERYTHING), run=lambda: network(rows() if x is None else x))


def names(compressor: Compressor, target: Target = Target.ACTIVATION) -> set[str]:
    return {site.path for site in compressor.sites(target)}


def test_every_tensor_in_memory_has_a_site_of_its_own():
    compressor = attached(Network())
    first = {"block.relu", "block.add", "block.silu"}  # the second ReLU and the subtraction read one tensor
    again = {"block.relu_2", "block.add_1", "tanh"}  # the head's ReLU reads the concatenation as it is
    assert names(compressor) == first | again | {"relu", "head"}
    assert compressor.coverage().activation == compressor.coverage().weight == 1


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "squeezenet1_1"])
def test_calls_have_the_names_that_torchvision_gives_them(name):
    models = pytest.importorskip("torchvision.models")
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = models.get_model(name, weights=None, num_classes=5, **options)
    _, theirs = extraction.get_graph_node_names(network)
    x = torch.randn(2, 3, 64, 64)
    found = survey({"n": network}, lambda: network(x[:1]), lambda: network(x))
    assert set(theirs) - {"x", "size", "getattr", "getitem"} <= set(found.calls)
    assert found.chosen <= set(theirs)


def test_calls_of_one_module_have_masks_and_scales_of_their_own():
    network = Network().eval()
    compressor = attached(network, ("block.relu*",))
    fire(compressor, network)
    sites = {site.path: site for site in compressor.sites(Target.ACTIVATION)}
    assert set(sites) == {"block.relu", "block.relu_1", "block.relu_2", "block.relu_3"}
    assert not torch.equal(sites["block.relu"].mask, sites["block.relu_1"].mask)
    seen = []
    hook = network.block.b.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    network(rows())
    hook.remove()
    for path, x in zip(("block.relu", "block.relu_2"), seen, strict=True):
        assert (x[:, sites[path].mask == 0] == 0).all()
        assert torch.equal(x / sites[path].scale, (x / sites[path].scale).round())


def test_a_modules_path_picks_all_its_calls_and_a_number_one_of_them():
    assert names(attached(Network(), ("block.relu",))) == {f"block.relu{end}" for end in ("", "_1", "_2", "_3")}
    assert names(attached(Network(), ("block.relu_2", "tanh"))) == {"block.relu_2", "tanh"}
    assert names(attached(Network(), ("block.relu",), exclude=("block.relu_1",))) == {
        "block.relu",
        "block.relu_2",
        "block.relu_3",
    }


@pytest.mark.parametrize("training", [True, False])
def test_before_the_first_event_the_network_computes_what_it_did(training):
    torch.manual_seed(0)
    network = Network().train(training)
    plain = copy.deepcopy(network)
    compressor = attached(network)
    assert network.training == training
    for _ in range(2):
        results = []
        for each in (network, plain):
            torch.manual_seed(3)
            results.append(each(rows()))
        assert torch.equal(*results)
    assert list(network.state_dict()) == list(plain.state_dict())
    compressor.detach()
    assert [type(module) for module in network.modules()] == [type(module) for module in plain.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_sites_compute_is_no_call():
    """An active site multiplies by its mask; that must not be taken for the network's own multiplication."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.act(self.a(x))
            return self.b(y * torch.sigmoid(y))

    network = Gate().eval()
    compressor = attached(network)
    assert {"act", "mul"} <= names(compressor)
    fire(compressor, network)
    sites = {site.path: site for site in compressor.sites(Target.ACTIVATION)}
    expected = sites["act"].value(F.silu(F.linear(rows(), network.a.weight, network.a.bias)))
    expected = sites["mul"].value(expected * torch.sigmoid(expected))
    expected = sites["b"].value(F.linear(expected, network.b.weight, network.b.bias))
    assert torch.equal(network(rows()), expected)
    assert torch.equal(compressor.bake(network)(rows()), expected)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda network: AveragedModel(network).module])
def test_a_copy_follows_events(make):
    network = Network().eval()
    compressor = attached(network)
    copied = make(network).eval()
    fire(compressor, network)
    assert torch.equal(copied(rows()), network(rows()))
    network.block.norm.running_mean.add_(1)
    assert not torch.equal(copied(rows()), network(rows()))


def test_a_pickled_network_takes_its_sites_along_and_a_baked_one_needs_none():
    network = Network().eval()
    compressor = attached(network)
    fire(compressor, network)
    expected = network(rows())
    loaded, baked = pickle.loads(pickle.dumps(network)), compressor.bake(network)
    fire(compressor, network, bits=3)
    for other in (loaded, baked, pickle.loads(pickle.dumps(baked)), copy.deepcopy(baked)):
        assert torch.equal(other(rows()), expected)
    assert not torch.equal(network(rows()), expected)


def test_without_events_a_baked_network_counts_nothing():
    network = Network().eval()
    baked = attached(network).bake(network)
    assert not any(is_compressed(type(module)) for module in baked.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in baked.modules())
    assert torch.equal(baked(rows()), network(rows()))


def test_a_loop_that_runs_longer_uses_the_last_site():
    network = Network().eval()
    compressor = attached(network)
    fire(compressor, network)
    assert network(rows(), loops=3).shape == (16, 3)
    assert compressor.unreached() == []
    network(rows(), loops=1)
    assert "block.relu_2" in compressor.unreached()


def test_calls_that_only_training_makes_do_not_shift_others():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.silu(self.a(x))
            x = x * 0.9 if self.training else x
            return (F.silu(self.b(x)) * 2) @ self.a.weight

    network = Noisy()
    found = survey({"n": network}, lambda: network(rows(1)), lambda: network(rows(2)))
    assert {"silu", "silu_1"} <= set(found.calls)
    assert "mul" not in found.calls
    network.train()
    assert network.training


class Attention(nn.Module):
    """Torch's attention, whose matrices and products are inside one function."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.f = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(self.a(x, x, x, need_weights=False)[0].mean(1))


def test_attention_is_compressed_inside():
    torch.manual_seed(0)
    x = torch.randn(8, 5, 6)
    network = Attention().eval()
    expected = network(x)
    compressor = attached(network, x=x)
    assert names(compressor) == {"a.linear", "a.scaled_dot_product_attention", "a.linear_1", "f"}
    assert names(compressor, Target.WEIGHT) == {"a.in_proj_weight", "a.out_proj.weight", "f.weight"}
    assert torch.equal(network(x), expected)
    axes = {site.path: site.batch_axis for site in compressor.sites(Target.ACTIVATION)}
    assert axes == {"a.linear": 1, "a.scaled_dot_product_attention": 0, "a.linear_1": 0, "f": 0}
    fire(compressor, network, x)
    assert torch.equal(compressor.bake(network)(x), network(x))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_compute_with_their_sites_weights(kind):
    torch.manual_seed(0)
    layer = kind(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    network, x = nn.Sequential(layer), torch.randn(8, 4, 6)
    plain = copy.deepcopy(network)
    compressor = attached(network, (), x, unpruned=())
    assert len(names(compressor, Target.WEIGHT)) == 8
    assert torch.equal(network(x)[0], plain(x)[0])
    fire(compressor, network, x)
    with torch.no_grad():
        for name, parameter in plain[0].named_parameters():
            parameter.copy_(getattr(network[0], name))
    assert torch.equal(network(x)[0], plain(x)[0])
    assert torch.equal(compressor.bake(network)(x)[0], plain(x)[0])
    network(x)[0].sum().backward()
    assert layer.weight_hh_l1 is not layer._parameters["weight_hh_l1"]
    assert layer._parameters["weight_hh_l1"].grad.abs().sum() > 0
    compressor.detach()
    assert type(layer) is kind
    assert all(a is b for a, b in zip(layer._flat_weights, layer.parameters(), strict=True))


@pytest.mark.parametrize(
    "normed", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_a_site_comes_after_parametrizations(normed):
    torch.manual_seed(0)
    network, x = nn.Sequential(normed(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3)), rows()
    plain = copy.deepcopy(network)
    compressor = attached(network, unpruned=())
    assert names(compressor, Target.WEIGHT) == {"0.weight", "2.weight"}
    assert compressor.coverage().weight == 1
    for _ in range(2):  # spectral norm changes its buffers in training
        assert torch.equal(network(x), plain(x))
    network.eval()
    fire(compressor, network)
    (site,) = (each for each in compressor.sites(Target.WEIGHT) if each.path == "0.weight")
    assert torch.equal(network[0].weight, site.value(plain.eval()[0].weight))
    assert int((network[0].weight == 0).sum()) >= 18
    assert torch.equal(compressor.bake(network)(x), network(x))
    assert list(network.state_dict()) == list(plain.state_dict())
    network(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_sites_may_have_bits_of_their_own():
    network = Network().eval()
    compressor = attached(network, bits={"head*": 4})
    fire(compressor, network, bits=8)
    bits = {site.path: int(site.bits) for target in Target for site in compressor.sites(target)}
    assert {path: width for path, width in bits.items() if width != 8} == {"head.weight": 4, "head": 4}
    assert compressor.bits(Target.WEIGHT) == compressor.bits(Target.ACTIVATION) == 8


def test_looking_at_a_network_changes_nothing_of_it():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.a.weight.data.mul_(0.5)
            return self.norm(self.a(x))

    network = Writes()
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    survey({"n": network}, lambda: network(rows(2)), lambda: network(rows(4)))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert type(network) is Writes
