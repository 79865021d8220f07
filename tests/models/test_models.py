"""All networks but the detectors."""

from functools import partial

import pytest
import torch
from torch import nn

from qp_runner.models import (
    ESPCN,
    MobileNetV2,
    PatchGAN,
    ResnetGenerator,
    SmallCNN,
    UNetGenerator,
    resnet18,
    resnet20,
    resnet32,
    vgg11,
)
from qp_runner.models.layers import norm

CLASSIFIERS = (SmallCNN, MobileNetV2, resnet18, resnet20, resnet32, vgg11)
RGB = {"in_channels": 3, "out_channels": 3}


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (partial(MobileNetV2, in_channels=3, classes=10), 2_296_922),  # behind the densities of arXiv 2110.08271
        (partial(resnet18, in_channels=3, classes=10), 11_173_962),  # He et al. 2016 with a 3×3 stem, the CIFAR form
        (partial(resnet20, in_channels=3, classes=10), 269_722),  # He et al. 2016, table 6: 0.27 M
        (partial(resnet32, in_channels=3, classes=10), 464_154),  # He et al. 2016, table 6: 0.46 M
        (partial(vgg11, in_channels=3, classes=10), 9_231_114),  # Simonyan & Zisserman 2015, A, one linear layer
        (partial(ESPCN, scale=2), 21_284),  # 64·25 + 64, 32·64·9 + 32, scale²·32·9 + scale²
        (partial(ESPCN, scale=3), 22_729),
        (partial(ESPCN, scale=4), 24_752),
        (partial(UNetGenerator, **RGB), 54_414_000),  # from here in thousands, as the authors' own code prints them
        (partial(UNetGenerator, **RGB, norm="instance"), 54_414_000),
        (partial(PatchGAN, in_channels=6), 2_769_000),
        (partial(PatchGAN, in_channels=3, norm="instance", affine=False), 2_765_000),
        (partial(ResnetGenerator, **RGB), 11_378_000),
    ],
)
def test_parameter_counts_are_the_published_ones(build, count):
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in build().parameters())
    assert found == count or (count % 1000 == 0 and abs(found - count) <= 1100)


@pytest.mark.parametrize(
    ("build", "given", "made"),
    [
        *((partial(build, in_channels=3, classes=10), (3, 32, 32), (10,)) for build in CLASSIFIERS),
        *((partial(build, in_channels=1, classes=7), (1, 48, 48), (7,)) for build in CLASSIFIERS),
        (partial(SmallCNN, in_channels=1, classes=10, width=4), (1, 2, 2), (10,)),
        (partial(SmallCNN, in_channels=1, classes=10, width=4), (1, 7, 13), (10,)),
        *((partial(ESPCN, scale=scale), (1, 7, 12), (1, 7 * scale, 12 * scale)) for scale in (2, 3, 4)),
        (partial(UNetGenerator, in_channels=1, out_channels=2, width=2, depth=2), (1, 4, 8), (2, 4, 8)),
        (partial(UNetGenerator, in_channels=1, out_channels=2, width=2, depth=4), (1, 32, 16), (2, 32, 16)),
        (partial(ResnetGenerator, in_channels=1, out_channels=2, width=2, blocks=1), (1, 16, 20), (2, 16, 20)),
        (partial(PatchGAN, in_channels=1, width=2, layers=2), (1, 32, 32), (1, 6, 6)),
    ],
)
def test_each_image_of_a_batch_is_treated_by_itself_and_every_weight_is_trained(build, given, made):
    torch.manual_seed(0)
    network, images = build(), torch.randn(3, *given)
    network(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.dim() > 1)
    one_by_one = torch.cat([network.eval()(image[None]) for image in images])
    assert one_by_one.shape == (3, *made)
    assert torch.allclose(network(images), one_by_one, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "path", "spread"),
    [
        (partial(resnet18, in_channels=3, classes=10), "layers.7.conv2", (2 / (512 * 9)) ** 0.5),  # He et al. 2015
        (partial(ESPCN, scale=3), "conv1", (2 / (64 * 25)) ** 0.5),
        (partial(ESPCN, scale=3), "conv2", (2 / (32 * 9)) ** 0.5),
        (partial(ESPCN, scale=3), "conv3", 0.001),
        (partial(UNetGenerator, **RGB, width=8, depth=5), "downs.3.conv", 0.02),
        (partial(PatchGAN, in_channels=3), "blocks.1.0", 0.02),
        (partial(SmallCNN, in_channels=3, classes=10), "conv3", (3 * 32 * 9) ** -0.5),  # uniform in ±1/√inputs
        (partial(MobileNetV2, in_channels=3, classes=10), "conv2", (3 * 320) ** -0.5),
        (partial(vgg11, in_channels=3, classes=10), "features.25", (3 * 512 * 9) ** -0.5),
    ],
)
def test_initial_weights_have_the_published_spread(build, path, spread):
    torch.manual_seed(0)
    assert build().get_submodule(path).weight.std().item() == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("build", [partial(ESPCN, scale=3), partial(UNetGenerator, **RGB, depth=5)])
def test_generators_biases_start_at_zero_and_their_norms_near_one(build):
    for module in build().modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)


def test_option_a_shortcuts_have_no_parameters():
    shortcut = resnet20(in_channels=3, classes=10).get_submodule("layers.3.shortcut")
    assert not [*shortcut.parameters()]
    x = torch.randn(1, 16, 8, 8)
    out = shortcut(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() + out[:, 24:].abs().sum() == 0


def test_espcn_makes_a_pixel_a_block_in_row_order():
    network = ESPCN(scale=2)
    nn.init.zeros_(network.conv3.weight)
    with torch.no_grad():
        network.conv3.bias.copy_(torch.arange(4.0))
    made = network(torch.zeros(1, 1, 2, 2))
    assert made[0, 0].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]] * 2


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_judgement_depends_on_one_patch(layers, side):
    torch.manual_seed(0)
    network = PatchGAN(in_channels=1, width=2, layers=layers)
    for module in network.modules():  # every weight counts, and no norm spreads an influence over the image
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    network.eval()
    image = torch.zeros(1, 1, 256, 256, requires_grad=True)
    logits = network(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    for places in image.grad[0, 0].nonzero().T:
        assert places.max() - places.min() + 1 == side


def test_the_skips_of_a_unet_carry_what_the_bottleneck_can_not():
    """With everything below the first level cut off, the output still depends on the input's details."""
    torch.manual_seed(0)
    network = UNetGenerator(**RGB, width=4, depth=4).eval()
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
    ("build", "arguments"),
    [
        (partial(UNetGenerator, **RGB), {"depth": 1}),
        (partial(UNetGenerator, **RGB), {"width": 0}),
        (partial(UNetGenerator, **RGB), {"norm": "layer"}),
        (partial(ResnetGenerator, **RGB), {"blocks": 0}),
        (partial(ResnetGenerator, **RGB), {"width": 0}),
        (partial(PatchGAN, in_channels=3), {"layers": 0}),
        (partial(PatchGAN, in_channels=3), {"width": 0}),
        (partial(PatchGAN, in_channels=3), {"norm": "layer"}),
    ],
)
def test_impossible_arguments_are_refused(build, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build(**arguments)


@pytest.mark.parametrize(
    ("build", "size", "said"),
    [
        (partial(UNetGenerator, **RGB, width=2, depth=4), (32, 24), r"2\^depth = 16; these are 32×24"),
        (partial(ResnetGenerator, **RGB, width=2, blocks=1), (30, 32), "multiples of 4; these are 30×32"),
    ],
)
def test_sizes_that_do_not_halve_are_refused(build, size, said):
    with pytest.raises(ValueError, match=said):
        build()(torch.zeros(1, 3, *size))
