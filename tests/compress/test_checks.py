"""Networks that could only be compressed in part, or wrongly, are refused before training."""

import copy
import random
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.rehearsal import check_single_samples
from qp_runner.errors import ConfigError
from qp_runner.schedule import Target


def attached(network, weight=("*",), activation=(), unpruned=()):
    return Compressor({"n": network}, sites=SiteSelection(weight, activation, unpruned), settings=Settings())


class Tied(nn.Module):
    def __init__(self, first=None):
        super().__init__()
        self.first = first or nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def test_tied_weights_are_one_site_counted_once():
    network = Tied()
    compressor = attached(network)
    compressor.trace(lambda: network(torch.randn(1, 4)))
    assert [site.path for site in compressor.latents()] == ["first.weight"]
    assert compressor.parameter_count() == 16
    assert compressor.coverage().weight == 1.0


@pytest.mark.parametrize("kind", [partial(nn.Linear, bias=False), nn.Embedding])
@pytest.mark.parametrize("unpruned", [(), ("second.weight",)])
def test_a_tied_weight_is_compressed_for_all_its_users(kind, unpruned):
    network = Tied(kind(4, 4))
    compressor = attached(network, weight=("second*",), unpruned=unpruned)
    sample = torch.ones(1, 4, dtype=torch.long) if kind is nn.Embedding else torch.randn(1, 4)
    compressor.trace(lambda: network(sample))
    (site,) = compressor.latents()
    assert site.prunable == (not unpruned)
    assert compressor.coverage().weight == 1.0
    site.set_mask(torch.eye(4))
    for module in (network.first, network.second):
        assert torch.equal(module.weight == 0, site.mask == 0)


def test_a_weight_tied_across_dimensions_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 1))
    network[1].weight = network[0].weight
    with pytest.raises(ConfigError, match=r"0\.weight: is one Parameter with 1\.weight, whose output"):
        attached(network)


def test_a_weight_that_is_also_used_behind_its_modules_back_is_refused():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.kept = [self.layer.weight]

        def forward(self, x):
            return F.linear(self.layer(x), self.kept[0])

    network = Hidden()
    compressor = attached(network)
    with pytest.raises(ConfigError, match=r"layer.weight: is also used uncompressed, in n"):
        compressor.trace(lambda: network(torch.randn(1, 4)))


class Auxiliary(nn.Module):
    """A head that only training uses."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.relu = nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x):
        x = self.layer(x)
        return (x, self.relu(self.head(x))) if self.training else x


@pytest.mark.parametrize(
    ("weight", "activation", "named"), [(("*",), (), "head.weight"), (("layer*",), ("relu",), "relu")]
)
def test_sites_that_are_never_called_are_refused_at_the_trace(weight, activation, named):
    network = Auxiliary()
    compressor = attached(network, weight, activation)
    with pytest.raises(ConfigError, match=f"{named}: takes no part in the network's forward pass"):
        compressor.trace(lambda: network(torch.randn(1, 4)))


class TimeFirst(nn.Module):
    """[B, T, C] → activations [T, B, C]."""

    def __init__(self):
        super().__init__()
        self.layer, self.relu, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.relu(self.layer(x.transpose(0, 1)))).mean(0)


def test_a_batch_that_is_not_the_first_dimension_is_refused():
    network = TimeFirst()
    compressor = attached(network, activation=("relu",))
    with pytest.raises(ConfigError, match=r"relu: has the batch in dimension 1 of \[5, 2, 6\]"):
        compressor.trace(lambda: network(torch.randn(1, 5, 4)), pair=lambda: network(torch.randn(2, 5, 4)))


def test_samples_of_other_sizes_are_no_reason_to_refuse():
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1))
    compressor = attached(network, activation=("1",))
    compressor.trace(lambda: network(torch.randn(1, 1, 4, 4)), pair=lambda: network(torch.randn(2, 1, 8, 4)))


def test_where_all_that_is_chosen_automatically_are_the_ends_nothing_is_left_to_prune(stage):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    compressor = Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))
    compressor.trace(lambda: network(torch.ones(1, 4)))
    message = r"^model\.sites\.unpruned=auto: leaves no activation to prune \(auto: the first and the last layer\)"
    with pytest.raises(ConfigError, match=message):
        compressor.check([stage()])


def test_globs_that_leave_nothing_to_prune_are_named(stage):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    compressor = attached(network, activation=("1",), unpruned=("1", "[02].weight"))
    with pytest.raises(ConfigError, match=r"^model\.sites\.unpruned=\['1', '\[02\]\.weight'\]: leaves no activation"):
        compressor.check([stage()])


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.LazyBatchNorm1d(affine=False)])
def test_a_lazy_module_needs_a_shape_before_anything_is_attached(lazy):
    network = nn.Sequential(nn.Linear(4, 4), lazy)
    for given in ({}, {"run": lambda: network(torch.ones(2, 4))}):
        with pytest.raises(ConfigError, match=r"^model\.networks=n\.1\.\w+: has no shape: give this lazy module its"):
            Compressor({"n": network, "other": nn.Linear(1, 1)}, **given)
    network(torch.ones(2, 4))
    assert Compressor({"n": network}, run=lambda: network(torch.ones(2, 4))).latents()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules_are_refused():
    network = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)))
    with pytest.raises(ConfigError, match=r"^model\.networks=1: is compiled by torch\.jit"):
        Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))


class Momentum(nn.Module):
    """Writes to a frozen weight in training."""

    def __init__(self):
        super().__init__()
        self.fast, self.slow, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.slow.requires_grad_(False)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.slow.weight.lerp_(self.fast.weight, 0.5)
        return self.last(self.fast(x) * self.slow(x))


def test_attaching_leaves_what_a_network_writes_to_its_frozen_weights_to_training():
    network = Momentum()
    before = copy.deepcopy(network.state_dict())
    compressor = Compressor(
        {"n": network}, run=lambda: network(torch.ones(1, 4)), pair=lambda: network(torch.ones(2, 4))
    )
    compressor.trace(lambda: network(torch.ones(1, 4)), pair=lambda: network(torch.ones(2, 4)))
    check_single_samples({"n": network}, lambda: network(torch.ones(1, 4)))
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())


class Transformed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))

    def forward(self, x):
        return torch.vmap(lambda row: torch.relu(self.weight @ row))(x)


def test_transforms_of_functions_are_refused():
    network = nn.Sequential(nn.Linear(4, 4), Transformed())
    with pytest.raises(ConfigError, match=r"^model\.networks=1: computes inside torch\.vmap"):
        Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))


class AsksForTypes(nn.Module):
    def __init__(self, asks):
        super().__init__()
        self.layers, self.asks = nn.ModuleList([nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)]), asks

    def forward(self, x):
        for layer in self.layers:
            x = layer(x) if self.asks(layer) else 2 * layer(x)
        return x


def test_a_network_that_computes_something_else_once_sites_are_attached_is_refused():
    network = AsksForTypes(lambda layer: type(layer) is nn.Linear)
    with pytest.raises(ConfigError, match=r"^model.networks=n: returns other values once sites are attached"):
        Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))


def test_a_network_that_asks_by_isinstance_or_draws_noise_is_not_refused():
    network = AsksForTypes(lambda layer: isinstance(layer, nn.Linear))
    Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))
    dice = random.Random(0)
    noisy = Calls(lambda x: x + dice.random())
    Compressor({"n": noisy}, run=lambda: noisy(torch.ones(1, 4)))


class WritesThroughAView(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.one(x)
        part = x[:, :2]
        part.mul_(2)
        return self.two(x)


def test_a_view_that_is_written_through_is_refused_as_a_site_and_never_chosen():
    network = WritesThroughAView()
    with pytest.raises(ConfigError, match=r"^model.sites=getitem: can't be a site: .* in place into a part"):
        Compressor({"n": network}, sites=SiteSelection(activation=("*",)), run=lambda: network(torch.ones(1, 4)))
    network = WritesThroughAView()
    compressor = Compressor({"n": network}, run=lambda: network(torch.ones(1, 4)))
    assert "getitem" not in {site.path for site in compressor.sites(Target.ACTIVATION)}
    assert not compressor.static


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.layer(x))
