"""Networks of torchvision and timm by name, and factories that name their arguments otherwise."""

import sys
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from qp_runner.data import digits
from qp_runner.errors import ConfigError
from qp_runner.models import resnet18, timm_network, torchvision_network
from qp_runner.tasks import ClassificationTask
from qp_runner.tasks.networks import understood


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions_networks_take_grey_images_and_coloured_ones(channels):
    network = torchvision_network(name="resnet18", in_channels=channels, classes=7).eval()
    images = torch.randn(2, channels, 32, 32)
    assert network(images).shape == (2, 7)
    plain = torchvision_network(name="resnet18", in_channels=3, classes=7).eval()
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain(images.expand(-1, 3, -1, -1)), network(images))


def test_a_stem_for_small_images_gives_the_cifar_form():
    network = torchvision_network(name="resnet18", in_channels=3, classes=10, small_images=True)
    ours = resnet18(in_channels=3, classes=10)
    count = [sum(parameter.numel() for parameter in each.parameters()) for each in (network, ours)]
    assert count[0] == count[1] == 11_173_962
    assert isinstance(network.maxpool, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"name": "resnt18"}, r"^model\.name=resnt18: a model of torchvision\.models; near: resnet18"),
        ({"in_channels": 4}, r"^model\.name=resnet18: takes images of 1 or 3 channels"),
        ({"name": "vgg11", "small_images": True}, r"small_images=True: false: vgg11 has no stem"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, line):
    with pytest.raises(ConfigError, match=line):
        torchvision_network(**{"name": "resnet18", "in_channels": 3, "classes": 2} | arguments)


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"^model\.name=resnet26: needs timm.*pip install timm$"):
        timm_network(name="resnet26", in_channels=1, classes=2)


def test_timms_networks_take_any_channels():
    pytest.importorskip("timm")
    network = timm_network(name="resnet10t", in_channels=2, classes=5)
    assert network.eval()(torch.randn(1, 2, 32, 32)).shape == (1, 5)
    with pytest.raises(ConfigError, match=r"^model\.name=resnet10q: a model of timm; near: "):
        timm_network(name="resnet10q", in_channels=2, classes=5)


def make_one(*, num_classes, in_chans=3):
    return num_classes, in_chans


def make_any(**options):
    return options


class Named:
    def __init__(self, *, num_classes):
        pass


class Derived(Named):
    def __init__(self, **options):
        pass


def make_plain(width=3):
    return width


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (make_one, {"num_classes": 5, "in_chans": 1}),
        (make_any, {"in_channels": 1, "classes": 5}),
        (Derived, {"num_classes": 5}),
        (partial(Derived, num_classes=9), {}),
        (torchvision.models.resnet18, {"num_classes": 5}),
        (partial(make_one, in_chans=4), {"num_classes": 5}),
        (make_plain, {}),
        (resnet18, {"classes": 5, "in_channels": 1}),
    ],
)
def test_factories_get_what_they_take_under_their_own_names(make, given):
    assert understood(make, {"in_channels": 1, "classes": 5}) == given


def test_a_factory_that_takes_no_channels_and_does_not_fit_the_data_is_refused():
    models = pytest.importorskip("torchvision.models")
    with pytest.raises(ConfigError, match=r"^model"):
        ClassificationTask(data=digits(), networks={"network": models.resnet18}, batch_size=64, seed=0)
