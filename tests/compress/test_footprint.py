import math
from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection, expected, measure, performance_density, published
from qp_runner.compress.candidates import matrices
from qp_runner.compress.footprint import Coded
from qp_runner.models import ESPCN, MobileNetV2, SmallCNN, UNetGenerator, resnet20
from qp_runner.schedule import Op, Stage, Target, TargetState

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
    assert Coded(n, zeros, bits, scale_bits=24).stored() == min(min(encodings) + 24, 32 * n)
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
        logits = 4 * 32  # no site
        assert footprint.activation == (sum(activations) + logits) / 1e6
        assert footprint.peak == max(sum(activations), activations[1] + logits) / 1e6  # two neighbours
        assert footprint.total == footprint.weight + footprint.activation


@pytest.mark.parametrize("kind", ["ideal", "stored", "published"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_expected_says_beforehand_what_is_measured_afterwards(build, attach, stage, passes, images, kind, granularity):
    network = build()
    compressor = attach(network, granularity=granularity, unpruned=("0.weight",))
    compressor.trace(lambda: network(images(1)))
    assert expected(compressor, [stage(0.0, 32)], kind=kind) == measure(compressor, kind=kind)
    before = expected(compressor, [stage(0.5, 12)], kind=kind)
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


def test_without_activation_sites_activations_take_32_bits(build, images):
    network = build()
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    compressor.trace(lambda: network(images(1)))
    assert measure(compressor).activation == 32 * (6 * 8 * 8 + 5 * 3 * 3 + 4) / 1e6


NETWORKS = {
    "small_cnn": (lambda: SmallCNN(in_channels=1, classes=3, width=2), (1, 1, 8, 8)),
    "resnet20": (lambda: resnet20(in_channels=1, classes=3), (1, 1, 8, 8)),
    "espcn": (lambda: ESPCN(scale=2), (1, 1, 6, 6)),
    "unet": (lambda: UNetGenerator(in_channels=1, out_channels=1, width=4, depth=2), (1, 1, 8, 8)),
}
GLOBS = {
    "small_cnn": ["conv1*", "*bn?", "relu1", "relu2", "relu3", "pool?", "flatten", "fc", "fc.weight"],
    "resnet20": [
        "*conv?.weight",
        "*bn?",
        "*relu1",
        "layers.*.relu2",
        "layers.[0-3]",
        "layers",
        "pool",
        "fc",
        "fc.weight",
    ],
    "espcn": ["conv?.weight", "conv?", "tanh1", "tanh2", "shuffle"],
    "unet": ["downs.*", "*.act", "*.relu", "skips.*", "ups.?", "head*", "tanh"],
}


@st.composite
def site_lists(draw):
    """A network's name, some of its globs, one to remove, and a state for both targets."""
    name = draw(st.sampled_from(sorted(NETWORKS)))
    globs = draw(st.lists(st.sampled_from(GLOBS[name]), min_size=1, unique=True))
    state = TargetState(draw(st.sampled_from([0.0, 0.3, 0.9])), draw(st.sampled_from([2, 8, 16, 32])))
    unpruned = draw(st.lists(st.sampled_from(globs), unique=True))
    return name, globs, draw(st.sampled_from(globs)), unpruned, state, draw(st.sampled_from(["element", "channel"]))


def footprint_of(name, globs, unpruned, state, granularity, kind):
    build, shape = NETWORKS[name]
    network = build().eval()
    paths = [path for path, _ in network.named_modules() if path]
    weights = [f"{path}.{name}" for path, m in network.named_modules() for name in matrices(m)]

    def matching(pool):
        return tuple(glob for glob in globs if any(fnmatchcase(path, glob) for path in pool))

    chosen = SiteSelection(matching(weights), matching(paths), tuple(each for each in unpruned if each in globs))
    compressor = Compressor({"n": network}, sites=chosen, settings=Settings(granularity=granularity))
    compressor.trace(lambda: network(torch.zeros(shape)))
    everything = frozenset((op, target) for op in Op for target in Target)
    return expected(compressor, [Stage(0, 9, state, state, everything)], kind=kind)


@given(sites=site_lists(), kind=st.sampled_from(["ideal", "stored"]))
def test_removing_a_glob_never_lowers_the_footprint_nor_raises_the_density(sites, kind):
    name, globs, removed, unpruned, state, granularity = sites
    fewer = [glob for glob in globs if glob != removed]
    unpruned = [glob for glob in unpruned if glob != removed]  # what another glob keeps would be pruned without it
    more = footprint_of(name, globs, unpruned, state, granularity, kind)
    less = footprint_of(name, fewer, unpruned, state, granularity, kind)
    for part in ("weight", "activation", "peak", "total"):
        assert getattr(less, part) >= getattr(more, part)
    assert performance_density(90.0, less.total) <= performance_density(90.0, more.total)
