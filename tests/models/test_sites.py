"""What the models of conf/model compress. Globs are looked up without the compressor: with paths and fnmatch only."""

import copy
from collections import Counter
from fnmatch import fnmatchcase
from inspect import signature
from pathlib import Path
from pydoc import locate

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.config.compose import jobs
from qp_runner.schedule import Target
from support import classifiers

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
SITES = {  # weights and activations of each compressed network, and the shape of an image
    "espcn": (3, 3, (1, 17, 17)),
    "mobilenetv2": (58, 54, (3, 32, 32)),  # stem, 17 · 3, 4 projections, head, fc | 2 + 17 · 2 ReLUs, 17 blocks, logits
    "resnet18": (21, 18, (3, 32, 32)),  # stem, 8 · 2, 3 projections, 1 linear | 1 + 8 · 2 ReLUs, logits
    "resnet20": (20, 20, (3, 32, 32)),  # stem, 9 · 2, 1 linear | 1 + 9 · 2 ReLUs, logits
    "resnet32": (32, 32, (3, 32, 32)),  # stem, 15 · 2, 1 linear | 1 + 15 · 2 ReLUs, logits
    "small_cnn": (4, 4, (3, 32, 32)),  # 3 convolutions, 1 linear | 3 ReLUs, logits
    "vgg11": (9, 9, (3, 32, 32)),  # 8 convolutions, 1 linear | 8 ReLUs, logits
    "resnet2_patchgan": (10, 10, (3, 32, 32)),
    "resnet9_patchgan": (24, 24, (3, 32, 32)),  # 3 + 9 · 2 + 2 + 1 | 3 + 9 · 2 + 2 activation functions and the image
    "unet64_patchgan": (10, 10, (3, 64, 64)),
    "unet256_patchgan": (16, 16, (3, 256, 256)),  # 8 down, 7 up, head | 8 + 7 activation functions and the image
}
DETECTORS = sorted(path.stem for path in CONF.glob("faster_rcnn*.yaml"))
OUTPUTS = ["rpn.head.cls_logits", "rpn.head.bbox_pred"]
OUTPUTS += ["roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"]
GIVEN = {"in_channels": 3, "out_channels": 3, "classes": 10, "scale": 3}  # by the tasks
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh)
PASSED_ON = (nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)  # their output is their input's data


class Selected:
    """A model of conf/model, each of its compressed networks by a prefix of their paths, and what its globs select."""

    def __init__(self, name):
        [job], _ = jobs([f"model={name}", "schedule=float"], multirun=False)
        model = job.config.model
        compressed = [key for key in model.networks if "discriminator" not in key]
        self.networks = {
            f"{key}." if len(compressed) > 1 else "": self.build(model.networks[key]) for key in compressed
        }
        self.modules = {prefix + p: m for prefix, n in self.networks.items() for p, m in n.named_modules() if p}
        self.weights = [f"{path}.weight" for path, module in self.modules.items() if isinstance(module, LAYERS)]
        frozen = {f"{path}.weight" for path in self.of(*LAYERS) if not self.modules[path].weight.requires_grad}
        if model.sites.weight == model.sites.activation == "auto":
            self.choose(SITES[name][2])
            return
        self.weight = [path for path in self.matching(self.weights, model.sites.weight) if path not in frozen]
        self.activation = self.matching(list(self.modules), model.sites.activation)
        self.unpruned = self.matching([*self.weight, *self.activation], model.sites.unpruned)

    def choose(self, shape):
        """What the compressor chooses, in the order of modules; attached to copies."""
        networks = copy.deepcopy(self.networks)
        compressor = Compressor(
            {prefix.rstrip(".") or "network": network for prefix, network in networks.items()},
            sites=SiteSelection(None, None, None),
            settings=Settings(),
            run=lambda: [network(torch.zeros(1, *shape)) for network in networks.values()],
        )
        chosen = {site.path: site for target in Target for site in compressor.sites(target)}
        self.weight = [path for path in self.weights if path in chosen]
        self.activation = [path for path in self.modules if path in chosen]
        assert len(self.weight) + len(self.activation) == len(chosen)
        self.unpruned = [path for path, site in chosen.items() if not site.prunable]

    @staticmethod
    def build(factory):
        arguments = {key: value for key, value in factory.items() if key != "_target_"}
        make = locate(factory["_target_"])
        if arguments.get("norm") == "frozen":
            arguments |= {"norm": "group", "weights": None}  # as if weights had been loaded
        given = {key: value for key, value in GIVEN.items() if key in signature(make).parameters}
        with torch.device("meta" if "rcnn" in make.__name__ else "cpu"):
            return make(**given, **arguments).eval()

    @staticmethod
    def matching(paths, globs):
        assert all(any(fnmatchcase(path, glob) for path in paths) for glob in globs)
        return [path for path in paths if any(fnmatchcase(path, glob) for glob in globs)]

    def of(self, *kinds):
        return [path for path, module in self.modules.items() if isinstance(module, kinds)]


@pytest.fixture(params=SITES, scope="module")
def model(request):
    selected = Selected(request.param)
    *selected.counts, selected.shape = SITES[request.param]
    return selected


def test_every_model_of_the_configuration_is_looked_at():
    automatic = {"timm", "torchvision"}
    assert {*SITES, *DETECTORS, *automatic} == {path.stem for path in CONF.glob("*.yaml")}


def test_every_weight_and_every_activation_function_is_a_site(model):
    assert model.weight == model.weights
    functions = {path for path in model.of(*ACTIVATIONS) if "skips." not in path}  # a ReLU on a skip is fused with it
    assert functions <= {*model.activation}
    each = len(model.networks)
    assert [len(model.weight) / each, len(model.activation) / each] == model.counts


def test_first_and_last_layers_are_not_pruned(model):
    wanted = set()
    for prefix in model.networks:
        for sites in (model.weight, model.activation):
            own = [path for path in sites if path.startswith(prefix)]
            wanted |= {own[0], own[-1]}
    assert set(model.unpruned) == wanted


@torch.no_grad()
def test_every_module_is_called_once_and_no_two_sites_are_one_tensor(model):
    """A module's output is a site: one called twice would be two tensors under one name."""
    kept, calls, written = [], Counter(), {}

    def look(path, output):
        kept.append(output)  # an id may be used again once its tensor is gone
        calls[path] += 1
        if path in model.activation:
            assert id(output) not in written, f"{path} and {written.get(id(output))} are one tensor"
            written[id(output)] = path

    for path, module in model.modules.items():
        module.register_forward_hook(lambda _m, _i, output, path=path: look(path, output))
    for network in model.networks.values():
        network(torch.zeros(1, *model.shape))
    assert sorted(written.values()) == sorted(model.activation)
    called = {path for path, module in model.modules.items() if not isinstance(module, nn.ModuleList)}
    assert calls == dict.fromkeys(called, 1)


@pytest.mark.parametrize("name", [*(name for name in classifiers() if name in SITES), "espcn"])
def test_sites_are_what_a_fused_runtime_writes(name):
    """Every layer reads the image or sites (through poolings)."""
    model, image = Selected(name), torch.zeros(1, *SITES[name][2])
    kept, seen = [], {id(image)}

    def look(path, module, read, output):
        kept.append(output)
        assert not isinstance(module, LAYERS) or id(read) in seen, f"{path} reads a tensor that is no site"
        if path in model.activation or (isinstance(module, PASSED_ON) and id(read) in seen):
            seen.add(id(output))

    for path, module in model.modules.items():
        module.register_forward_hook(lambda m, read, output, path=path: look(path, m, read[0], output))
    model.networks[""](image)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_sites_of_a_detector_are_all_that_is_trained_and_no_more(name):
    model = Selected(name)
    trained = {path for path, parameter in model.networks[""].named_parameters() if parameter.requires_grad}
    assert set(model.weight) == trained & {*model.weights}
    frozen = not {*model.weights} <= trained
    left_out = {path for path in model.of(nn.ReLU) if frozen and ("body.relu" in path or "body.layer1" in path)}
    assert {*model.activation} & {*model.of(nn.ReLU)} == {*model.of(nn.ReLU)} - left_out
    first = set() if frozen else {"backbone.body.conv1.weight", "backbone.body.relu"}
    assert set(model.unpruned) == {*OUTPUTS, *(f"{path}.weight" for path in OUTPUTS)} | first
