import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection, expected, measure, performance_density, published
from qp_runner.compress.footprint import Coded
from qp_runner.models import MobileNetV2
from qp_runner.schedule import Op, Target, TargetState

HALF, FLOAT = TargetState(0.5, 8), TargetState()


@pytest.fixture(scope="module")
def mobilenet():
    network = MobileNetV2(in_channels=3, classes=10)
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ("relu1",)), settings=Settings())
    trace = compressor.trace(lambda: network(torch.randn(1, 3, 32, 32)))
    return {"parameters": compressor.parameter_count(), "layer_outputs": trace.layer_outputs}


def test_published_counts_come_from_the_network_itself(mobilenet):
    assert mobilenet["parameters"] == 2_296_922
    assert 2 * mobilenet["layer_outputs"] == 6_899_732


@pytest.mark.parametrize(
    ("accuracy", "weight", "activation", "density"),
    [
        (92.6, FLOAT, FLOAT, 0.315),
        (86.84, HALF, HALF, 2.361),  # Q→P(w,f)
        (91.44, TargetState(0.0, 8), HALF, 1.989),  # P(w,f)→Q as published: the pruned weights are forgotten
        (91.44, HALF, HALF, 2.486),  # the same with the pruned weights counted: now the better of the two
    ],
)
def test_published_performance_densities(mobilenet, accuracy, weight, activation, density):
    footprint = published(**mobilenet, weight=weight, activation=activation)
    assert round(performance_density(accuracy, footprint.total), 3) == density


def test_performance_density_of_nothing_is_undefined():
    assert math.isnan(performance_density(90.0, 0.0))


@given(n=st.integers(1, 5000), share=st.floats(0, 1), bits=st.integers(2, 32))
def test_stored_is_the_smallest_encoding(n, share, bits):
    zeros = int(n * share)
    width = len(bin(n - 1)) - 2 if n > 1 else 0
    encodings = [n * bits, n + (n - zeros) * bits, (n - zeros) * (width + bits)]
    assert Coded(n, zeros, bits, scale_bits=24).stored() == min(encodings) + 24
    assert Coded(n, zeros, bits, scale_bits=24).ideal() == (n - zeros) * bits


def test_channel_masks_cost_a_bit_for_each_channel():
    coded = Coded(elements=8 * 100, zeros=4 * 100, bits=8, group=100)
    assert coded.stored() == 8 + 400 * 8


def count(network, compressor, masks_only):
    """Bits of all parameters and of each activation, from the values themselves."""
    sites = {site.path: site for target in Target for site in compressor.sites(target)}
    weight = 0
    for name, module in network.named_children():
        if isinstance(module, nn.BatchNorm2d):
            weight += 32 * (module.weight.numel() + module.bias.numel())
        elif hasattr(module, "weight"):
            site = sites[f"{name}.weight"]
            kept = int(site.mask.sum()) if masks_only else int((module.weight != 0).sum())
            weight += 32 * module.bias.numel() + kept * int(site.bits)
    return weight, [int(sites[path].mask.expand(shape).sum()) * int(sites[path].bits) for path, shape in SHAPES.items()]


SHAPES = {"2": (6, 8, 8), "5": (5, 3, 3)}


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_ideal_is_kept_elements_times_bits(build, attach, stage, passes, images, granularity):
    network = build()
    compressor = attach(network, granularity=granularity, unpruned=("0.weight", "5"))
    compressor.trace(lambda: network(images(1)))
    for fires in ((), [(op, target) for op in Op for target in Target]):
        compressor.enter(stage(0.5, 6, fires=fires), run=passes(network))
        weight, activations = count(network, compressor, masks_only=True)
        footprint = measure(compressor)
        assert footprint.weight == weight / 1e6
        assert footprint.activation == sum(activations) / 1e6
        assert footprint.peak == sum(activations) / 1e6  # two neighbours
        assert footprint.total == footprint.weight + footprint.activation


@pytest.mark.parametrize("kind", ["ideal", "stored", "published"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_expected_says_beforehand_what_is_measured_afterwards(build, attach, stage, passes, images, kind, granularity):
    network = build()
    compressor = attach(network, granularity=granularity, unpruned=("0.weight",))
    compressor.trace(lambda: network(images(1)))
    assert expected(compressor, weight=FLOAT, activation=FLOAT, kind=kind) == measure(compressor, kind=kind)
    before = expected(compressor, weight=TargetState(0.5, 12), activation=TargetState(0.5, 12), kind=kind)
    compressor.enter(stage(0.5, 12), run=passes(network))
    after = measure(compressor, kind=kind)
    tolerance = {"ideal": 0, "stored": 0.02, "published": 0.03}[kind]  # zero codes; counts rounded site by site
    for name in ("weight", "activation", "peak", "total"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=tolerance)


def test_published_on_a_compressed_network_uses_its_measured_state(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    compressor.trace(lambda: network(images(1)))
    compressor.enter(stage(0.5, 8), run=passes(network))
    outputs = 2 * (6 * 8 * 8 * 2 + 5 * 3 * 3 * 2 + 4)
    parameters = sum(p.numel() for p in network.parameters())
    footprint = measure(compressor, kind="published")
    assert footprint.weight == pytest.approx(parameters * 8 * (1 - compressor.sparsity(Target.WEIGHT)) / 1e6)
    assert footprint.activation == pytest.approx(outputs * 8 * (1 - compressor.sparsity(Target.ACTIVATION)) / 1e6)


def test_a_footprint_needs_a_trace(build, attach):
    with pytest.raises(RuntimeError, match="trace"):
        measure(attach(build()))


def test_an_activation_the_network_never_computes_takes_no_memory(build, stage):
    network = build()
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    compressor.trace(lambda: network(torch.randn(1, 2, 8, 8)))
    assert measure(compressor).activation == measure(compressor).peak == 0
