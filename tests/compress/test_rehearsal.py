"""What would go wrong at a later event is found before training, in one line that names the site."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qp_runner.compress import Compressor, Settings, SiteSelection, check_single_samples
from qp_runner.compress.attach import latent
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def traced(network, sample, *, weight=(), activation=(), unpruned=(), **settings):
    sites = SiteSelection(weight, activation, unpruned)
    compressor = Compressor({"n": network}, sites=sites, settings=Settings(**settings))
    compressor.trace(lambda: network(sample))
    return compressor


class Renormed(nn.Linear):
    """Writes to its own weight in one of the ways that people use."""

    def __init__(self, how, *, only_in_training=False):
        super().__init__(4, 4)
        self.how, self.only_in_training = how, only_in_training

    def forward(self, x):
        if self.training or not self.only_in_training:
            self.how(self)
        return super().forward(x)


def assigned(layer):
    layer.weight.data = torch.renorm(layer.weight.data, 2, 0, 1e9)


def in_place(layer):
    layer.weight.data.clamp_(-1e9, 1e9)


def copied(layer):
    with torch.no_grad():
        layer.weight.copy_(layer.weight)


def of_a_view(layer):
    layer.weight.detach()[0].mul_(1.0)


WAYS = [assigned, in_place, copied, of_a_view]  # which change nothing here, so that only the write itself tells


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("only_in_training", [False, True])
def test_a_write_to_a_weight_that_would_be_lost_is_refused_before_training(stage, how, only_in_training):
    network = nn.Sequential(
        Renormed(how, only_in_training=only_in_training), nn.BatchNorm1d(4), nn.Linear(4, 2)
    ).train()
    before = network[0].weight.detach().clone()
    compressor = traced(network, torch.randn(1, 4), weight=("*",))
    for event in (PW, QW):
        with pytest.raises(ConfigError, match=r"^model\.sites\.weight=0\.weight: is written to during a forward pass"):
            compressor.check([stage(fires={event})])
    compressor.check([stage(fires=set())])  # until the weight is compressed nothing is lost
    assert torch.equal(network[0].weight, before)
    assert network[0].training


def test_a_write_by_a_hook_is_refused(stage):
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].register_forward_pre_hook(lambda module, _args: in_place(module))
    with pytest.raises(ConfigError, match=r"0\.weight: is written to"):
        traced(network, torch.randn(1, 4), weight=("*",)).check([stage(fires={QW})])


def test_an_embedding_that_renorms_a_shared_weight_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 5)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    with pytest.raises(ConfigError, match=r"embed\.weight: is an embedding with max_norm"):
        traced(Tied(), torch.tensor([[1, 2]]), weight=("*",))


def test_a_write_between_steps_to_the_parameter_reaches_it(stage):
    network = nn.Sequential(nn.Linear(4, 4))
    compressor = traced(network, torch.randn(1, 4), weight=("*",))
    compressor.enter(stage(sparsity=0.0, fires={QW}), run=lambda: None)
    for parameter in network.parameters():
        parameter.data.clamp_(-0.01, 0.01)
    assert latent(network[0]).abs().max() == network[0].bias.abs().max() == torch.tensor(0.01)
    assert network[0].weight.abs().max() < 0.02


class TwoSizes(nn.Module):
    """One ReLU for both of its layers."""

    def __init__(self, stride=1, channels=16):
        super().__init__()
        self.one = nn.Conv2d(1, 8, 3, padding=1)
        self.two = nn.Conv2d(8, channels, 3, stride=stride, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.two(self.relu(self.one(x))))


@pytest.mark.parametrize(
    ("stride", "channels", "granularity", "advice"),
    [
        (1, 16, "element", r"call a module of its own"),
        (1, 16, "channel", r"call a module of its own"),
        (2, 8, "element", r"set compress\.granularity=channel"),
    ],
)
def test_one_module_for_several_sizes_is_refused_with_the_setting_and_the_calls(
    stage, stride, channels, granularity, advice
):
    network, size = TwoSizes(stride, channels), 4 // stride
    compressor = traced(network, torch.randn(1, 1, 4, 4), activation=("relu",), granularity=granularity)
    calls = rf"called 2 times .* shape \[8, 4, 4\] and of \[{channels}, {size}, {size}\]"
    with pytest.raises(ConfigError, match=rf"^compress\.granularity={granularity}: site relu is {calls}.*{advice}"):
        compressor.check([stage(fires={PA})])
    compressor.check([stage(fires={QA})])


def test_sizes_that_one_mask_fits_and_sites_that_are_not_pruned_are_fine(stage):
    sample = torch.randn(1, 1, 4, 4)
    by_channel = traced(TwoSizes(2, 8), sample, activation=("relu",), granularity="channel")
    by_channel.check([stage(fires={PA})])
    unpruned = traced(TwoSizes(), sample, activation=("relu", "two"), unpruned=("relu",))
    unpruned.check([stage(fires={PA})])


def test_samples_of_several_channels_name_the_setting(stage):
    network = nn.Sequential(nn.ReLU())
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("0",)), settings=Settings(granularity="channel"))

    def run():
        network(torch.randn(2, 3, 4, 4))
        network(torch.randn(2, 5, 4, 4))

    with pytest.raises(ConfigError, match=r"^compress\.granularity=channel: site 0 .*\[3, 1, 1\] and of \[5, 1, 1\]"):
        compressor.enter(stage(fires={PA}), run=run)


class Attention(nn.Module):
    """Masked scores, through a module."""

    def __init__(self):
        super().__init__()
        self.query, self.scores = nn.Linear(4, 4), nn.Identity()

    def forward(self, x):
        scores = self.query(x) @ x.transpose(1, 2)
        later = torch.ones(scores.shape[1:]).triu(1).bool()
        return self.scores(scores.masked_fill(later, float("-inf"))).softmax(-1) @ x


@pytest.mark.parametrize("event", [PA, QA])
def test_an_output_that_is_infinite_by_design_is_refused_as_such(stage, event):
    network, x = Attention(), torch.randn(2, 3, 4)
    compressor = traced(network, x[:1], activation=("scores",))
    with pytest.raises(ConfigError, match=r"^model\.sites\.activation=scores: infinite output of scores"):
        compressor.check([stage(fires={event})])
    with pytest.raises(ConfigError, match=r"infinite output of scores"):
        compressor.enter(stage(fires={event}), run=lambda: network(x))


class Scalar(nn.Module):
    def forward(self, x):
        return x.mean()


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :0]


@pytest.mark.parametrize(
    ("module", "message"),
    [(Scalar(), "is a single number without a batch dimension"), (Nothing(), r"has no elements \(shape \[1, 0\]\)")],
)
def test_outputs_that_cannot_be_compressed_are_refused(module, message):
    with pytest.raises(ConfigError, match=rf"^model\.sites\.activation=1: {message}; leave it out$"):
        traced(nn.Sequential(nn.Linear(4, 4), module), torch.randn(1, 4), activation=("1",))


def test_a_norm_that_one_sample_is_too_few_for_is_named():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ("2",)), settings=Settings())
    x = torch.randn(1, 4)
    for ask in (
        lambda: compressor.trace(lambda: network.train()(x)),
        lambda: check_single_samples({"n": network}, lambda: network(x)),
    ):
        with pytest.raises(ConfigError, match=r"^model\.networks=1: normalises over the batch alone.*batch_size to 2"):
            ask()
    check_single_samples({"n": network}, lambda: network(torch.randn(2, 4)))
    check_single_samples({"n": network}, lambda: F.relu("wants targets"))


def test_a_network_of_frozen_weights_says_so(stage):
    network = nn.Sequential(nn.Linear(4, 4)).requires_grad_(False)
    compressor = traced(network, torch.randn(1, 4), weight=("*",))
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=\['\*'\]: .*frozen"):
        compressor.check([stage(fires={QW})])
