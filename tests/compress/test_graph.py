"""The ledger of a traced network: which tensors lie in memory, when, and what compresses them."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.graph import trace
from qp_runner.schedule import Op, Stage, Target, TargetState


def graph_of(network, activation=(), x=None, **settings):
    sites = SiteSelection((), tuple(activation))
    compressor = Compressor({"n": network}, sites=sites, settings=Settings(**settings))
    return compressor.trace(lambda: network(torch.randn(1, 2, 4, 4) if x is None else x))


def sizes(graph):
    return [tensor.elements for tensor in graph.ledger]


def site_names(graph):
    return [tuple(tensor.sites) for tensor in graph.ledger]


class Model(nn.Module):
    """Layers by name, and a forward pass given as a function of the model and its input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, *x):
        return self._forward(self, *x)


class Chain(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in [(2, 3), (3, 7), (7, 5), (5, 6)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (3, 7, 5, 6))
        self.relus = nn.ModuleList(nn.ReLU(inplace=inplace) for _ in range(4))

    def forward(self, x):
        for conv, norm, relu in zip(self.convs, self.norms, self.relus, strict=True):
            x = relu(norm(conv(x)))
        return x


@pytest.mark.parametrize("inplace", [False, True])
def test_convolution_norm_and_activation_function_are_one_tensor_and_the_peak_is_the_largest_pair(inplace):
    graph = graph_of(Chain(inplace), [f"relus.{i}" for i in range(4)])
    assert sizes(graph) == [16 * c for c in (3, 7, 5, 6)]
    assert site_names(graph) == [(f"relus.{i}",) for i in range(4)]
    assert graph.peak(sizes(graph)) == max(a + b for a, b in itertools.pairwise(sizes(graph))) == 16 * (7 + 5)
    assert graph.peak([1, 0, 0, 1]) == 1  # the first and the last never meet
    assert graph.layer_outputs == 2 * sum(sizes(graph))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_shortcut_keeps_its_tensor_alive(inplace):
    def forward(m, x):
        a = m.a(m.conv0(x))
        y = m.conv2(m.b(m.conv1(a)))
        y = y.add_(a) if inplace else y + a
        return m.end(m.conv3(m.out(y)))

    relus = {name: nn.ReLU(inplace=inplace) for name in ("a", "b", "out", "end")}
    convs = {f"conv{i}": nn.Conv2d(*shape, 1) for i, shape in enumerate([(2, 4), (4, 9), (9, 4), (4, 1)])}
    graph = graph_of(Model(forward, **relus, **convs), ["a", "b", "out", "end"])
    a, b, out, end = sizes(graph)
    assert (a, b, out, end) == (64, 144, 64, 16)
    assert graph.peak([a, b, out, end]) == a + b + out
    assert graph.peak([a, b, 0, end]) == a + b
    assert graph.peak([0, 0, out, end]) == out + end


@pytest.mark.parametrize(
    "same",
    [
        nn.Flatten(),
        nn.Identity(),
        nn.Dropout(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.PixelShuffle(2),
        nn.ReflectionPad2d(1),
        nn.Hardtanh(),
        Model(lambda _m, x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
        Model(lambda _m, x: torch.cat([x, x], 1)),
        Model(lambda _m, x: x.mean((2, 3))),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_only_moves_selects_or_pools_values_is_one_tensor_with_what_it_reads(same):
    def forward(m, x):
        x = m.same(m.relu(m.conv(x)))
        return m.linear(x.flatten(1))

    network = Model(forward, conv=nn.Conv2d(2, 4, 1), relu=nn.ReLU(), same=same, linear=nn.LazyLinear(3))
    network(torch.randn(1, 2, 4, 4))
    graph = graph_of(network, ["relu"])
    assert [(t.elements, *t.sites) for t in graph.ledger] == [(64, "relu"), (3,)]


def test_functional_calls_are_seen_and_named():
    network = Model(lambda m, x: m.b(F.silu(m.a(x)) + 1), a=nn.Conv2d(2, 5, 1), b=nn.Conv2d(5, 3, 1))
    first, last = graph_of(network).ledger
    assert (first.name, first.elements) == ("n.add", 80)
    assert "no module returns" in first.reason
    assert (last.name, last.elements) == ("b", 48)
    assert "no glob" in last.reason


def test_what_several_operations_read_lies_in_memory():
    network = Model(lambda m, x: (lambda y: torch.sigmoid(y) * y)(m.a(x)), a=nn.Conv2d(2, 5, 1))
    assert [t.name for t in graph_of(network).ledger] == ["a", "n.mul"]


def test_the_input_does_not_count_even_normalised_but_what_a_parameter_made_of_it_does():
    plain = Model(lambda m, x: m.a((x - 0.5) / 2), a=nn.Conv2d(2, 5, 1))
    assert sizes(graph_of(plain)) == [80]
    shifted = Model(lambda m, x: m.a(m.norm(x)), norm=nn.BatchNorm2d(2), a=nn.Conv2d(2, 5, 1))
    assert sizes(graph_of(shifted)) == [32, 80]


def test_the_matrices_of_attention_count_but_not_what_one_kernel_keeps_to_itself():
    def by_hand(m, x):
        q, k, v = m.q(x), m.k(x), m.v(x)
        return m.o(torch.softmax(q @ k.transpose(1, 2), -1) @ v)

    def fused(m, x):
        return m.o(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x)))

    layers = {name: nn.Linear(8, 8) for name in "qkvo"}
    x = torch.randn(1, 5, 8)
    assert sizes(graph_of(Model(by_hand, **layers), x=x)) == [40, 40, 40, 25, 40, 40]
    assert sizes(graph_of(Model(fused, **layers), x=x)) == [40, 40, 40, 40, 40]
    attention = Model(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))
    assert sum(sizes(graph_of(attention, x=x))) == 5 * 24 + 40 + 40  # one projection to 24, attention, the result


def test_a_recurrent_layer_is_one_operation():
    network = Model(
        lambda m, x: m.f(m.l(m.e(x))[0][:, -1]),
        e=nn.Embedding(50, 6), l=nn.LSTM(6, 4, bidirectional=True, batch_first=True), f=nn.Linear(8, 3),
    )  # fmt: skip
    graph = graph_of(network, x=torch.randint(50, (1, 7)))
    assert [(t.name, t.elements) for t in graph.ledger] == [("e", 42), ("l", 28), ("l", 28), ("f", 3)]  # two directions


def test_parameters_in_one_storage_are_told_apart():
    """Recurrent layers on a GPU keep all of theirs in one."""
    network = Model(lambda m, x: m.f(m.l(x)[0][:, -1]), l=nn.LSTM(6, 4, batch_first=True), f=nn.Linear(4, 3))
    buffer, start = torch.cat([each.detach().flatten() for each in network.l.parameters()]), 0
    for each in network.l.parameters():
        each.data = buffer[start : start + each.numel()].view_as(each)
        start += each.numel()
    compressor = Compressor({"network": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    compressor.trace(lambda: network(torch.randn(1, 7, 6)))
    stage = Stage(0, 9, TargetState(0.5, 8), TargetState(), frozenset((op, Target.WEIGHT) for op in Op))
    compressor.check([stage])
    assert {site.path for site in compressor.sites(Target.WEIGHT)} == {"l.weight_ih_l0", "l.weight_hh_l0", "f.weight"}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_to_one_pixel_is_no_new_tensor_in_any_layout(layout):
    network = Model(
        lambda m, x: m.f(F.adaptive_avg_pool2d(m.relu(m.a(x)), 1).flatten(1)),
        a=nn.Conv2d(2, 5, 1), relu=nn.ReLU(), f=nn.Linear(5, 3),
    )  # fmt: skip
    graph = graph_of(network.to(memory_format=layout), x=torch.randn(1, 2, 4, 4).to(memory_format=layout))
    assert [(t.name, t.elements) for t in graph.ledger] == [("relu", 80), ("f", 3)]


def test_parameters_of_several_networks_are_told_apart():
    """What is computed from Parameters alone is no activation, in any of the networks."""
    networks = {name: nn.Sequential(weight_norm(nn.Linear(4, 4))) for name in ("a", "b")}
    compressor = Compressor(networks, sites=SiteSelection((), ()), settings=Settings())
    graph = compressor.trace(lambda: [network(torch.randn(1, 4)) for network in networks.values()])
    assert [(t.name, t.elements) for t in graph.ledger] == [("a.0", 4), ("b.0", 4)]


def test_a_site_that_is_bypassed_compresses_nothing():
    """The shortcut reads the tensor before its ReLU, so it has to lie there uncompressed."""
    network = Model(
        lambda m, x: (lambda y: m.b(m.relu(y)) + y)(m.a(x)),
        a=nn.Conv2d(2, 5, 1), relu=nn.ReLU(), b=nn.Conv2d(5, 5, 1),
    )  # fmt: skip
    graph = graph_of(network, ["relu"])
    assert [dict(t.sites) for t in graph.ledger] == [{}, {}]
    assert graph.ledger[0].reason == "also read without passing the site relu"


def test_two_sites_of_one_tensor_are_both_listed():
    network = nn.Sequential(nn.Conv2d(2, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    assert site_names(graph_of(network, ["1", "2", "3"])) == [("1", "2"), ("3",)]


def test_a_module_called_twice_makes_two_tensors():
    network = Model(lambda m, x: m.conv(m.relu(m.conv(m.relu(m.conv(x))))), relu=nn.ReLU(), conv=nn.Conv2d(2, 2, 2))
    graph = graph_of(network, ["relu"], granularity="channel")
    assert [(t.elements, *t.sites) for t in graph.ledger] == [(18, "relu"), (8, "relu"), (2,)]
    assert graph.calls["relu"] == ((1, 2, 3, 3), (1, 2, 2, 2))


def test_rows_of_a_sample_all_count_unless_their_number_depends_on_values():
    windows = Model(lambda m, x: m.relu(m.f(x.flatten(2).reshape(-1, 4))), f=nn.Linear(4, 3), relu=nn.ReLU())
    assert sizes(graph_of(windows, ["relu"])) == [8 * 3]
    found = Model(
        lambda m, x: m.relu(m.f(x.reshape(-1, 4)[x.reshape(-1, 4)[:, 0] > 0])), f=nn.Linear(4, 3), relu=nn.ReLU()
    )
    assert sizes(graph_of(found, ["relu"], x=torch.ones(1, 2, 4, 4))) == [3]


def test_outputs_in_any_container_are_returned():
    network = Model(lambda m, x: {"a": [m.a(x)], "b": (m.b(x),)}, a=nn.Conv2d(2, 5, 1), b=nn.Conv2d(2, 3, 1))
    assert sizes(graph_of(network)) == [80, 48]


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


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_t", "efficientnet_b0", "shufflenet_v2_x0_5"])
def test_networks_of_torchvision_are_traced_whole(name):
    """Every matrix parameter is read, and every operation that computes reads a tensor of the ledger or the image."""
    models = pytest.importorskip("torchvision.models")
    network = models.get_model(name, weights=None, num_classes=10).eval()
    parameters = dict(network.named_parameters())
    graph = trace(
        {"n": network}, {}, parameters=parameters, run=lambda: network(torch.randn(1, 3, 64, 64)), seen=lambda *_: None
    )
    assert set(graph.read) == set(parameters)
    assert graph.ledger[-1].elements == 10
    assert all(tensor.first <= tensor.last for tensor in graph.ledger)


@torch.library.custom_op("qp_runner_tests::rnn_with_state", mutates_args=())
def rnn_with_state(x: torch.Tensor, weight: torch.Tensor, dropout_state: torch.Tensor) -> torch.Tensor:
    """As cuDNN's recurrent layers: they are given the generator of their dropout, which the process keeps."""
    return x @ weight + 0 * dropout_state


def test_the_state_of_a_generator_is_not_the_networks_input():
    kept = torch.zeros(1)
    layers = {name: nn.Linear(4, 4, bias=False) for name in ("a", "b", "end")}

    def forward(m, x):
        return m.end(rnn_with_state(m.a(x), m.b.weight, kept))

    first = [tensor.first_layer for tensor in graph_of(Model(forward, **layers)).ledger]
    assert first == [True, False, False]
