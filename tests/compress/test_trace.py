import itertools

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection


def traced(network, activation, shape=(1, 2, 4, 4)):
    compressor = Compressor({"n": network}, sites=SiteSelection((), tuple(activation)), settings=Settings())
    return compressor.trace(lambda: network(torch.randn(*shape)))


def overlaps(trace, first, second):
    a, b = (next(t for t in trace.tensors if t.site == name) for name in (first, second))
    return a.first <= b.last and b.first <= a.last


class Chain(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in [(2, 3), (3, 7), (7, 5), (5, 6)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (3, 7, 5, 6))
        self.relus = nn.ModuleList(nn.ReLU(inplace=inplace) for _ in range(4))

    def forward(self, x):
        for conv, norm, relu in zip(self.convs, self.norms, self.relus, strict=True):
            x = relu(norm(conv(x)))
        return x.flatten(1).sum(1)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_peak_of_a_chain_is_its_largest_adjacent_pair(inplace):
    trace = traced(Chain(inplace), [f"relus.{i}" for i in range(4)])
    assert [t.shape for t in trace.tensors] == [(3, 4, 4), (7, 4, 4), (5, 4, 4), (6, 4, 4)]
    sizes = [t.elements for t in trace.tensors]
    assert trace.peak(sizes) == max(a + b for a, b in itertools.pairwise(sizes)) == 16 * (7 + 5)
    assert trace.peak([1, 0, 0, 1]) == 1  # the first and the last never meet
    assert trace.layer_outputs == 2 * sum(sizes)


class Residual(nn.Module):
    """a → b → c + a, by hand: at `b`'s convolution a and b are alive, at the second a, b and out; then out alone."""

    def __init__(self, inplace):
        super().__init__()
        self.inplace = inplace
        self.conv0, self.conv1, self.conv2 = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 9, 1), nn.Conv2d(9, 4, 1)
        self.a, self.b, self.out, self.end = (nn.ReLU(inplace=inplace) for _ in range(4))
        self.conv3 = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        a = self.a(self.conv0(x))
        y = self.conv2(self.b(self.conv1(a)))
        if self.inplace:
            y += a
        else:
            y = y + a
        return self.end(self.conv3(self.out(y)))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_shortcut_keeps_its_tensor_alive(inplace):
    trace = traced(Residual(inplace), ["a", "b", "out", "end"])
    a, b, out, end = (16 * channels for channels in (4, 9, 4, 1))
    assert trace.peak([t.elements for t in trace.tensors]) == a + b + out
    assert [overlaps(trace, *pair) for pair in [("a", "out"), ("b", "out"), ("a", "end"), ("out", "end")]] == [
        True,
        True,
        False,
        True,
    ]
    assert trace.peak([a, b, 0, end]) == a + b
    assert trace.peak([0, 0, out, end]) == out + end


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.flatten, self.identity = nn.ReLU(), nn.Flatten(), nn.Identity()
        self.linear, self.last = nn.Linear(32, 3), nn.ReLU()

    def forward(self, x):
        return self.last(self.linear(self.identity(self.flatten(self.relu(x)))))


def test_views_of_a_site_are_the_same_tensor_counted_once_and_read_through():
    trace = traced(Views(), ["relu", "flatten", "identity", "last"])
    assert [(t.site, t.elements) for t in trace.tensors] == [("relu", 32), ("last", 3)]
    assert trace.peak([32, 3]) == 35


def test_a_module_called_twice_makes_two_tensors():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.conv = nn.ReLU(), nn.Conv2d(2, 2, 2)

        def forward(self, x):
            return self.conv(self.relu(self.conv(self.relu(x))))

    assert [(t.site, t.shape) for t in traced(Twice(), ["relu"]).tensors] == [("relu", (2, 4, 4)), ("relu", (2, 3, 3))]


def test_tracing_disturbs_nothing_and_looks_past_active_sites(build, attach, stage, passes, images):
    network = build().train()
    compressor = attach(network)
    before = compressor.trace(lambda: network(images(1)))
    compressor.enter(stage(), run=passes(network))
    for compressor.static in (False, True):
        state = {key: value.clone() for key, value in compressor.state_dict().items()}
        hooks = [len(module._forward_hooks) for module in network.modules()]
        expected = network.eval()(images())
        network.train()
        assert compressor.trace(lambda: network(images(1))) == before
        assert [len(module._forward_hooks) for module in network.modules()] == hooks
        assert all(torch.equal(value, state[key]) for key, value in compressor.state_dict().items())
        assert all(module.training for module in network.modules())
        assert torch.equal(network.eval()(images()), expected)


def test_shapes_are_of_one_sample_for_any_batch(build, attach, images):
    network = build()
    compressor = attach(network)
    one, many = (compressor.trace(lambda n=n: network(images(n))) for n in (1, 5))
    assert one == many
