"""Training on patches, evaluating on whole images: what activation masks mean there."""

import pytest
import torch
from torch import nn

from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Target

BOTH = {(Op.PRUNE, Target.ACTIVATION), (Op.QUANTIZE, Target.ACTIVATION)}
PATCH, IMAGE = 8, (19, 13)


class Conv(nn.Sequential):
    """Takes images of any size; the site is "1"."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 1, 3, padding=1))


@pytest.fixture(params=["element", "channel"])
def pruned(request, attach, stage, passes):
    """A network whose site was pruned, and in parts quantized, on patches."""
    network = Conv()
    compressor = attach(network, activation=("1",), granularity=request.param)
    compressor.trace(lambda: network(torch.zeros(1, 2, PATCH, PATCH)))
    compressor.enter(stage(0.5, 5, fires=BOTH), run=passes(network))
    return network, compressor


def handed_on(network, x):
    seen = []
    handle = network[1].register_forward_hook(lambda _m, _a, out: seen.append(out))
    network(x)
    handle.remove()
    return seen[0]


def test_positions_are_zero_where_those_of_the_patch_are(pruned):
    network, compressor = pruned
    [site] = compressor.sites(Target.ACTIVATION)
    mask = site.mask.expand(6, PATCH, PATCH)
    assert int((mask == 0).sum()) == 6 * PATCH * PATCH // 2
    x = torch.randn(3, 2, *IMAGE)
    made = handed_on(network, x)
    plain = site.value(torch.tanh(network[0](x)))
    assert torch.equal(made, plain)
    for i in range(IMAGE[0]):
        for j in range(IMAGE[1]):
            assert not made[:, mask[:, i % PATCH, j % PATCH] == 0, i, j].any()
    assert made.any(dim=0).flatten(1).any(dim=1).sum() >= 3


def test_static_sites_agree_with_the_others(pruned):
    network, compressor = pruned
    x = torch.randn(3, 2, *IMAGE)
    expected = network(x)
    compressor.static = True
    assert torch.equal(network(x), expected)


def test_a_baked_network_agrees(pruned):
    network, compressor = pruned
    baked = compressor.bake(network)
    for size in (IMAGE, (PATCH, PATCH), (5, 30)):
        x = torch.randn(2, 2, *size)
        assert torch.equal(baked(x), network(x))


def test_gradients_are_zero_where_the_mask_is(pruned):
    _, compressor = pruned
    latent = torch.randn(1, 6, *IMAGE, requires_grad=True)
    [site] = compressor.sites(Target.ACTIVATION)
    site(latent).square().sum().backward()
    kept = site.mask_for(site.mask, latent).expand(6, *IMAGE) == 1
    assert not latent.grad[0][~kept].any()
    assert latent.grad[0][kept].any()


def test_the_footprint_is_a_patchs(pruned):
    network, compressor = pruned
    before = [record for record in compressor.summary() if record.target == Target.ACTIVATION]
    network(torch.randn(1, 2, *IMAGE))
    assert [record for record in compressor.summary() if record.target == Target.ACTIVATION] == before
    assert before[0].elements == 6 * PATCH * PATCH


def test_samples_of_the_masks_own_size_are_masked_by_the_site_itself(pruned):
    """So a training step, which sees only patches, does not build a mask."""
    _, compressor = pruned
    [site] = compressor.sites(Target.ACTIVATION)
    assert site.mask_for(site.mask, torch.zeros(4, 6, PATCH, PATCH)) is site.mask


def test_other_channels_are_refused(pruned):
    _, compressor = pruned
    [site] = compressor.sites(Target.ACTIVATION)
    with pytest.raises(ConfigError, match=r"site 1 has samples of shape"):
        site.mask_for(site.mask, torch.zeros(4, 5, PATCH, PATCH))
