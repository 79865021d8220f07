"""What is in sites, and what is not and why."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.inventory import inventory
from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN
from qp_runner.schedule import Op, Stage, Target, TargetState


class Mixed(nn.Module):
    """Layers of several kinds."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.normed = parametrizations.weight_norm(nn.Linear(8, 8))
        self.frozen = nn.Linear(8, 8)
        self.frozen.weight.requires_grad = False
        self.relu = nn.ReLU()
        self.last = nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.ones(2, 4))

    def forward(self, x):
        x = self.lstm(self.embedding(x))[0][:, -1]
        return self.last(self.relu(self.frozen(torch.tanh(self.normed(x))))) * self.scale[0]


def covered(network, x, weight=(), activation=()):
    compressor = Compressor({"n": network}, sites=SiteSelection(weight, activation), settings=Settings())
    compressor.trace(lambda: network(x))
    return compressor.coverage()


def test_everything_in_sites_is_covered_and_nothing_is_said():
    network = SmallCNN(in_channels=1, classes=3, width=2)
    found = covered(network, torch.zeros(1, 1, 8, 8), ("*",), ("relu?", "fc"))
    assert (found.weight, found.activation, found.left_out, found.warnings()) == (1.0, 1.0, (), [])


def test_what_is_left_out_is_named_with_its_share_and_reason():
    found = covered(Mixed(), torch.zeros(1, 5, dtype=torch.long), ("last.weight",), ("relu",))
    reasons = {each.path: (each.elements, each.reason) for each in found.left_out}
    assert reasons["embedding.weight"] == (80, "no glob of model.sites.weight matches")
    assert reasons["normed.parametrizations.weight.original1"] == (64, "behind a parametrization")
    assert reasons["frozen.weight"] == (64, "frozen")
    assert reasons["scale"] == (8, "no glob of model.sites.weight matches")
    assert reasons["n.tanh"] == (8, "a function's result, which no module returns")
    assert reasons["embedding"] == (40, "no glob of model.sites.activation matches")
    assert sum(each.share for each in found.left_out) == pytest.approx(2 - found.weight - found.activation)
    weight, activation = found.warnings()
    assert weight.startswith("only 4.17 % of the matrix parameters are in sites; left out: lstm.weight_ih_l0, 33.3 % (")
    assert weight.endswith("; and 4 more")
    assert "embedding, " in activation


def test_a_glob_that_is_missing_is_the_reason():
    network = SmallCNN(in_channels=1, classes=3, width=2)
    found = covered(network, torch.zeros(1, 1, 8, 8), ("conv*",), ("relu?",))
    assert [(each.path, each.reason) for each in found.left_out] == [
        ("fc.weight", "no glob of model.sites.weight matches"),
        ("fc", "no glob of model.sites.activation matches"),
    ]


class InTrainingOnly(nn.Module):
    """A function that is called once more in training, a function that is called in evaluation only."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.middle(torch.relu(self.first(x)))
        if self.training:
            return self.last(torch.relu(x + 1))
        return self.last(torch.softmax(x, 1))


class FinalState(nn.Module):
    """Reads what a module returns after its output."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        _, (h, _) = self.lstm(x[None])
        return self.last(h)[0]


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


class Answers(nn.Module):
    """Returns a dataclass."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = torch.tanh(self.middle(torch.tanh(self.first(x))))
        return Answer(self.last(hidden), hidden)


def everything(network):
    x = torch.randn(2, 8)
    compressor = Compressor({"n": network}, run=lambda: network(x[:1]), pair=lambda: network(x))
    compressor.trace(lambda: network(x[:1]))
    return compressor


def left(compressor):
    return {(each.path, each.reason) for each in compressor.coverage().left_out}


def test_what_training_calls_more_or_less_often_is_no_site_and_another_call_takes_its_place():
    compressor = everything(InTrainingOnly())
    assert [site.path for site in compressor.sites(Target.ACTIVATION)] == ["first", "last"]
    assert left(compressor) == {("n.softmax", "called more or fewer times in training than in evaluation")}


def test_what_is_returned_after_another_tensor_is_no_site():
    assert left(everything(FinalState())) == {
        ("lstm", "not the first tensor of what a module returns, which alone can be a site")
    }


def test_what_a_dataclass_holds_is_returned():
    compressor = everything(Answers())
    assert left(compressor) == set()
    assert {site.path: site.prunable for target in Target for site in compressor.sites(target)} == {
        "first.weight": False,
        "middle.weight": False,
        "last.weight": False,
        "tanh": False,
        "tanh_1": False,
        "last": False,
    }


def test_what_hands_on_an_excluded_result_is_excluded():
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(2, 8)
    for activation in (None, ("1", "4", "5")):
        sites = SiteSelection(activation=activation, exclude=("1",))
        compressor = Compressor({"n": network}, sites=sites, run=lambda: network(x[:1]), pair=lambda: network(x))
        compressor.trace(lambda: network(x[:1]))
        assert left(compressor) == {("2", "excluded")}
        compressor.detach()


def test_what_has_no_uniform_quantizer_and_what_is_frozen_have_the_kind_of_their_module():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight = nn.Linear(8, 8), nn.Parameter(torch.randn(5, 3, dtype=torch.cfloat))
            self.fixed = nn.Parameter(torch.ones(3, 3), requires_grad=False)

        def forward(self, x):
            return (torch.fft.rfft(self.first(x)) @ self.weight).abs() @ self.fixed

    found = {(each.path, each.kind, each.reason) for each in everything(Spectrum()).coverage().left_out}
    assert ("weight", "Spectrum", "has numbers of type complex64, which have no uniform quantizer") in found
    assert ("fixed", "Spectrum", "frozen") in found


class InPlace(nn.Module):
    """Writes into a tensor, or into a part of it, and reads the tensor afterwards."""

    def __init__(self, write):
        super().__init__()
        self.first, self.middle, self.last, self.write = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3), write

    def forward(self, x):
        x = torch.sigmoid(self.middle(self.first(x))) * 2.0
        self.write(x)
        return self.last(x)


def halved(compressor, network):
    """Prunes and quantizes everything; returns what is measured of activations."""
    state = TargetState(0.5, 8)
    fires = frozenset((op, target) for op in Op for target in Target)
    compressor.enter(Stage(0, 9, state, state, fires), run=lambda: network(torch.randn(16, 8)))
    return compressor.state(Target.ACTIVATION)


def test_what_is_clipped_in_part_has_the_site_of_the_whole():
    network = InPlace(lambda x: x[:, :4].relu_())
    compressor = everything(network)
    assert [site.path for site in compressor.sites(Target.ACTIVATION)] == ["first", "last", "mul"]
    assert left(compressor) == set()
    assert halved(compressor, network) == TargetState(0.5, 8)


def test_what_is_computed_in_part_is_left_out_and_no_other_site_stands_for_it():
    network = InPlace(lambda x: x[:, :4].tanh_())
    compressor = everything(network)
    assert [site.path for site in compressor.sites(Target.ACTIVATION)] == ["first", "last"]
    assert left(compressor) == {("n.tanh", "a function's result, which no module returns")}
    assert halved(compressor, network) == TargetState(0.0, 8)


@pytest.mark.parametrize(
    ("write", "activation"),
    [
        (lambda x: x[:, :4].relu_(), ("relu",)),
        (lambda x: x.tanh_(), ("tanh",)),
        (lambda x: x.tanh_(), None),
    ],
)
def test_a_site_whose_result_nothing_reads_counts_in_no_figure(write, activation):
    network = InPlace(write)
    x = torch.randn(2, 8)
    sites = SiteSelection(activation=activation, unpruned=("first*", "last*") if activation is None else ())
    compressor = Compressor({"n": network}, sites=sites, run=lambda: network(x[:1]), pair=lambda: network(x))
    compressor.trace(lambda: network(x[:1]))
    unread = next(site for site in compressor.sites(Target.ACTIVATION) if site.path in ("relu", "tanh"))
    others = len(compressor.sites(Target.ACTIVATION)) - 1
    assert halved(compressor, network) == TargetState(0.0, 8 if others else 32)
    assert int((unread.mask == 0).sum()) == unread.mask.numel() // 2
    reason = "without effect: nothing reads what it hands on"
    assert [each.path for each in compressor.summary() if each.left_out == reason] == [unread.path]
    rows = [(row.path, row.share, row.treatment) for row in inventory(compressor) if row.reason == reason]
    assert rows == [(unread.path, 0.0, "left")]


def test_a_schedule_is_refused_if_only_sites_without_effect_are_there_for_it():
    network = InPlace(lambda x: x.tanh_())
    x = torch.randn(2, 8)
    sites = SiteSelection(activation=("tanh",))
    compressor = Compressor({"n": network}, sites=sites, run=lambda: network(x[:1]), pair=lambda: network(x))
    compressor.trace(lambda: network(x[:1]))
    state = TargetState(0.5, 32)
    with pytest.raises(ConfigError, match="finds none, but the schedule compresses activations"):
        compressor.check([Stage(0, 9, TargetState(), state, frozenset({(Op.PRUNE, Target.ACTIVATION)}))])


def test_what_is_written_whole_after_pooling_has_its_own_size():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), Written(), nn.Conv2d(2, 1, 1))
    compressor = Compressor({"n": network}, sites=SiteSelection((), ()))
    compressor.trace(lambda: network(torch.randn(1, 1, 4, 4)))
    assert {each.name: each.elements for each in compressor.graph.ledger} == {"2": 2 * 2 * 2, "3": 2 * 2}


class Written(nn.Module):
    """Computes in place."""

    def forward(self, x):
        return x.sigmoid_()
