"""What is in sites, and what is not and why."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.models import SmallCNN
from qp_runner.schedule import Target


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
