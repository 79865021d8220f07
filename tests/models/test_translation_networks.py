from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from pydoc import locate

import pytest
import torch
import yaml
from torch import nn

from qp_runner.models import PatchGAN, ResnetGenerator, UNetGenerator
from qp_runner.models.layers import norm

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
GENERATORS = {  # conf/model -> its compressed networks, weights, activations, size of an image
    "unet256_patchgan": (["generator"], 16, 16, 256),  # 8 down, 7 up, head | 8 + 7 activation functions, the image
    "unet64_patchgan": (["generator"], 10, 10, 64),
    "resnet9_patchgan": (["a_to_b", "b_to_a"], 24, 24, 32),  # 3 + 9 · 2 + 2 + 1 | 3 + 9 · 2 + 2 and the image
    "resnet2_patchgan": (["a_to_b", "b_to_a"], 10, 10, 32),
}
LAYERS = (nn.Conv2d, nn.ConvTranspose2d)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "count"),  # in millions, as the authors' own implementation prints them
    [
        (UNetGenerator(in_channels=3, out_channels=3), 54.414),
        (UNetGenerator(in_channels=3, out_channels=3, norm="instance"), 54.414),
        (PatchGAN(in_channels=6), 2.769),
        (PatchGAN(in_channels=3, norm="instance", affine=False), 2.765),
        (ResnetGenerator(in_channels=3, out_channels=3), 11.378),
    ],
)
def test_parameter_counts_are_the_published_ones(network, count):
    assert parameters(network) / 1e6 == pytest.approx(count, abs=1.1e-3)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_judgement_depends_on_one_patch(layers):
    torch.manual_seed(0)
    network = PatchGAN(in_channels=1, width=2, layers=layers)
    for module in network.modules():  # every weight counts, and no norm spreads an influence over the image
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    network.eval()
    image = torch.zeros(1, 1, 256, 256, requires_grad=True)
    logits = network(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = image.grad[0, 0].nonzero().T
    sides = (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    assert tuple(map(int, sides)) == {1: (16, 16), 2: (34, 34), 3: (70, 70)}[layers]


@pytest.mark.parametrize(("depth", "size"), [(2, (4, 8)), (4, (32, 16)), (5, (64, 64))])
def test_a_unet_keeps_the_size(depth, size):
    network = UNetGenerator(in_channels=1, out_channels=2, width=2, depth=depth).eval()
    made = network(torch.zeros(2, 1, *size))
    assert made.shape == (2, 2, *size)
    assert made.abs().max() < 1


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match=r"2\^depth = 16; these are 32×24"):
        UNetGenerator(in_channels=3, out_channels=3, width=2, depth=4)(torch.zeros(1, 3, 32, 24))
    with pytest.raises(ValueError, match="multiples of 4"):
        ResnetGenerator(in_channels=3, out_channels=3, width=2, blocks=1)(torch.zeros(1, 3, 30, 32))


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (UNetGenerator, {"depth": 1}),
        (UNetGenerator, {"width": 0}),
        (UNetGenerator, {"norm": "layer"}),
        (ResnetGenerator, {"blocks": 0}),
        (ResnetGenerator, {"width": 0}),
    ],
)
def test_impossible_generators_are_refused(build, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build(in_channels=3, out_channels=3, **arguments)


@pytest.mark.parametrize("arguments", [{"layers": 0}, {"width": 0}, {"norm": "layer"}])
def test_impossible_discriminators_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PatchGAN(in_channels=3, **arguments)


def test_skips_carry_what_the_bottleneck_can_not():
    """With everything below the first level cut off, the output still depends on the input's details."""
    torch.manual_seed(0)
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=4).eval()
    with torch.no_grad():
        for layer in network.downs[1:]:
            layer.conv.weight.zero_()
    one, other = (network(torch.randn(1, 3, 32, 32)) for _ in range(2))
    assert (one - other).std() > 1e-4


def test_for_one_sample_instance_norm_is_batch_norm_in_training():
    torch.manual_seed(0)
    one, other = (norm(kind, 5).train() for kind in ("instance", "batch"))
    x = torch.randn(1, 5, 6, 7) * 3 + 1
    assert torch.allclose(one(x), other(x), atol=1e-6)


@pytest.mark.parametrize(
    "network", [UNetGenerator(in_channels=3, out_channels=3, width=8, depth=5), PatchGAN(in_channels=3)]
)
def test_weights_start_as_said(network):
    for module in network.modules():
        if isinstance(module, LAYERS):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d) and module.num_features >= 64:
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)


class Selected:
    """A model of conf/model: its compressed networks and what its globs select of them."""

    def __init__(self, name):
        config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        compressed, _, _, size = GENERATORS[name]
        self.networks, self.modules = {}, {}
        for network in compressed:
            factory = dict(config["networks"][network])
            build = locate(factory.pop("_target_"))
            self.networks[network] = build(in_channels=3, out_channels=3, **factory).eval()
            prefix = f"{network}." if len(compressed) > 1 else ""
            self.modules |= {prefix + path: m for path, m in self.networks[network].named_modules() if path}
        weights = [f"{path}.weight" for path, module in self.modules.items() if isinstance(module, LAYERS)]
        self.weights, self.globs, self.size = weights, config["sites"], size
        self.weight = self.matching(weights, "weight")
        self.activation = self.matching(list(self.modules), "activation")
        self.unpruned = self.matching([*self.weight, *self.activation], "unpruned")

    def matching(self, paths, kind):
        return [path for path in paths if any(fnmatchcase(path, glob) for glob in self.globs[kind])]


@pytest.fixture(params=GENERATORS, scope="module")
def model(request):
    selected = Selected(request.param)
    selected.counts = GENERATORS[request.param][1:3]
    return selected


def test_every_weight_and_every_activation_is_a_site(model):
    assert model.weight == model.weights
    each = len(model.networks)
    assert (len(model.weight) / each, len(model.activation) / each) == model.counts


def test_first_and_last_layers_are_not_pruned(model):
    for network in model.networks:
        prefix = f"{network}." if len(model.networks) > 1 else ""
        weights = [path for path in model.weight if path.startswith(prefix)]
        outputs = [path for path in model.activation if path.startswith(prefix)]
        first_act = next(path for path in outputs if path.endswith((".relu", ".act")))
        wanted = {weights[0], weights[-1], first_act, f"{prefix}tanh"}
        assert {path for path in model.unpruned if path.startswith(prefix)} == wanted


@torch.no_grad()
def test_every_module_is_called_once_and_no_two_sites_are_one_tensor(model):
    kept, calls, written = [], Counter(), {}

    def look(path, output):
        kept.append(output)  # an id may be used again once its tensor is gone
        calls[path] += 1
        if path in model.activation:
            assert id(output) not in written, f"{path} and {written.get(id(output))} are one tensor"
            written[id(output)] = path

    handles = [
        module.register_forward_hook(lambda _m, _i, output, path=path: look(path, output))
        for path, module in model.modules.items()
    ]
    for network in model.networks.values():
        network(torch.zeros(1, 3, model.size, model.size))
    for handle in handles:
        handle.remove()
    assert sorted(written.values()) == sorted(model.activation)
    assert set(calls.values()) == {1}
