from collections import Counter

import pytest
import torch
from torch import nn

from qp_runner.models import MobileNetV2, SmallCNN, resnet18, resnet20, resnet32, vgg11

BUILDERS = [SmallCNN, MobileNetV2, resnet18, resnet20, resnet32, vgg11]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (MobileNetV2, 2_296_922),  # the count behind the performance densities of arXiv 2110.08271
        (resnet18, 11_173_962),  # He et al. 2016's layers with a 3×3 stem: the usual CIFAR form
        (resnet20, 269_722),  # He et al. 2016, table 6: 0.27 M
        (resnet32, 464_154),  # He et al. 2016, table 6: 0.46 M
        (vgg11, 9_231_114),  # Simonyan & Zisserman 2015, configuration A, one linear layer, batch norm
    ],
)
def test_parameter_counts_are_the_published_ones(build, count):
    assert parameters(build(in_channels=3, classes=10)) == count


def test_mobilenetv2_has_the_published_number_of_outputs():
    """The published count is twice all outputs of convolutions, batch norms and the classifier (its 10 included)."""
    network, outputs = MobileNetV2(in_channels=3, classes=10).eval(), Counter()
    for module in network.modules():
        kind = type(module)
        if kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):
            module.register_forward_hook(lambda _m, _i, out, kind=kind: outputs.update({kind: out[0].numel()}))
    network(torch.zeros(1, 3, 32, 32))
    assert outputs == {nn.Conv2d: 1_724_928, nn.BatchNorm2d: 1_724_928, nn.Linear: 10}
    assert 2 * outputs.total() == 6_899_732


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 32), (1, 7, 48)])
def test_any_channels_classes_and_size(build, channels, classes, size):
    network = build(in_channels=channels, classes=classes).eval()
    assert network(torch.zeros(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (7, 13), (64, 32)])
def test_the_small_cnn_takes_images_of_any_size(height, width):
    assert SmallCNN(in_channels=1, classes=10, width=4)(torch.zeros(2, 1, height, width)).shape == (2, 10)


def test_vgg_refuses_images_smaller_than_its_poolings():
    with pytest.raises(RuntimeError, match="too small"):
        vgg11(in_channels=1, classes=10).eval()(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("build", BUILDERS)
def test_no_module_is_called_twice(build):
    """A module's output is a site: one called twice would be two tensors under one name."""
    network, calls = build(in_channels=3, classes=10).eval(), Counter()
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    network(torch.zeros(1, 3, 32, 32))
    assert set(calls) == {name for name, _ in network.named_modules()}
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("build", BUILDERS)
def test_every_parameter_is_trained(build):
    torch.manual_seed(0)
    network = build(in_channels=3, classes=10)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.dim() > 1)


@pytest.mark.parametrize("build", BUILDERS)
def test_a_batch_is_treated_sample_by_sample(build):
    torch.manual_seed(0)
    network, images = build(in_channels=3, classes=10).eval(), torch.randn(3, 3, 32, 32)
    one_by_one = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), one_by_one, atol=1e-4)


def test_resnets_start_as_said():
    """He et al. 2015: standard deviation √(2 / (outputs · kernel area))."""
    torch.manual_seed(0)
    weight = resnet18(in_channels=3, classes=10).get_parameter("layers.7.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("build", "path"), [(SmallCNN, "conv3.weight"), (MobileNetV2, "conv2.weight"), (vgg11, "features.25.weight")]
)
def test_the_others_start_as_said(build, path):
    """Uniform in ±1/√(inputs of an output)."""
    torch.manual_seed(0)
    weight = build(in_channels=3, classes=10).get_parameter(path)
    assert weight.abs().max().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.01)


def test_option_a_shortcuts_have_no_parameters():
    shortcut = resnet20(in_channels=3, classes=10).get_submodule("layers.3.shortcut")
    assert parameters(shortcut) == 0
    x = torch.randn(1, 16, 8, 8)
    out = shortcut(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() + out[:, 24:].abs().sum() == 0
