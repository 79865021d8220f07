"""What the globs of conf/model select. Written without the compressor: with paths and fnmatch only."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import qp_runner.models
from support import classifiers

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
NAMES = classifiers()
LAYERS = (nn.Conv2d, nn.Linear)
PASSED_ON = (nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)  # their output is their input's data


class Selected:
    """A model of conf/model and what its globs select."""

    def __init__(self, name):
        config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        self.config, sites = config, config["sites"]
        factory = dict(config["networks"]["network"])
        build = getattr(qp_runner.models, factory.pop("_target_").rpartition(".")[2])
        self.network = build(in_channels=3, classes=10, **factory).eval()
        self.weights = [f"{path}.weight" for path, m in self.network.named_modules() if isinstance(m, LAYERS)]
        self.modules = [path for path, _ in self.network.named_modules()]
        self.globs = sites
        self.weight = self.matching(self.weights, sites["weight"])
        self.activation = self.matching(self.modules, sites["activation"])
        self.unpruned = self.matching([*self.weight, *self.activation], sites["unpruned"])

    @staticmethod
    def matching(paths, globs):
        return [path for path in paths if any(fnmatchcase(path, glob) for glob in globs)]


@pytest.fixture(params=NAMES, scope="module")
def model(request):
    return Selected(request.param)


@pytest.mark.parametrize(
    ("name", "weights", "activations"),
    [
        ("small_cnn", 4, 4),  # 3 convolutions, 1 linear | 3 ReLUs, logits
        ("mobilenetv2", 58, 54),  # stem, 17 · 3, 4 projections, head, linear | 2 + 17 · 2 ReLUs, 17 blocks, logits
        ("resnet18", 21, 18),  # stem, 8 · 2, 3 projections, 1 linear | 1 + 8 · 2 ReLUs, logits
        ("resnet20", 20, 20),  # stem, 9 · 2, 1 linear | 1 + 9 · 2 ReLUs, logits
        ("resnet32", 32, 32),  # stem, 15 · 2, 1 linear | 1 + 15 · 2 ReLUs, logits
        ("vgg11", 9, 9),  # 8 convolutions, 1 linear | 8 ReLUs, logits
    ],
)
def test_counts(name, weights, activations):
    model = Selected(name)
    assert (len(model.weight), len(model.activation)) == (weights, activations)


def test_every_classifier_is_counted_above():
    assert NAMES == ["mobilenetv2", "resnet18", "resnet20", "resnet32", "small_cnn", "vgg11"]


def test_the_file_is_named_as_the_model(model):
    assert (CONF / f"{model.config['name']}.yaml").is_file()


def test_every_glob_matches(model):
    pools = {"weight": model.weights, "activation": model.modules, "unpruned": [*model.weights, *model.modules]}
    for kind, globs in model.globs.items():
        for glob in globs:
            assert model.matching(pools[kind], [glob]), f"{kind}: {glob}"


def test_all_weights_and_every_relu_and_the_logits_are_sites(model):
    assert model.weight == model.weights
    relus = [path for path, module in model.network.named_modules() if isinstance(module, nn.ReLU)]
    assert {*relus, "fc"} <= set(model.activation)


def test_first_and_last_layers_are_not_pruned(model):
    relus = [path for path, module in model.network.named_modules() if isinstance(module, nn.ReLU)]
    assert set(model.unpruned) == {model.weights[0], relus[0], model.weights[-1], "fc"}


def test_sites_are_what_a_fused_runtime_writes_and_no_tensor_counts_twice(model):
    """Every layer reads the image or sites (through poolings), and no two sites are one tensor."""
    kept, written, seen = [], {}, set()

    def hook(path, module):
        def look(_module, inputs, output):
            kept.append(output)  # an id may be used again once its tensor is gone
            if isinstance(module, LAYERS):
                assert id(inputs[0]) in seen, f"{path} reads a tensor that is no site"
            if path in model.activation:
                assert id(output) not in written, f"{path} and {written.get(id(output))} are one tensor"
                written[id(output)] = path
                seen.add(id(output))
            elif isinstance(module, PASSED_ON) and id(inputs[0]) in seen:
                seen.add(id(output))

        return look

    handles = [module.register_forward_hook(hook(path, module)) for path, module in model.network.named_modules()]
    image = torch.zeros(1, 3, 32, 32)
    seen.add(id(image))
    model.network(image)
    for handle in handles:
        handle.remove()
    assert sorted(written.values()) == sorted(model.activation)
