"""Compressed networks can be differentiated in every way in which float ones can."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.attach import latent
from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)
FIRES = [set(), {PW, PA}, {QA}, {QW}, {PW, PA, QW, QA}]
states = pytest.mark.parametrize("fires", FIRES)


def compressed(stage, fires, scale="power_of_two"):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(40, 4)
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ("0", "1")), settings=Settings(scale=scale))
    compressor.trace(lambda: network(x[:1]))
    compressor.enter(stage(0.25, 6, fires=fires), run=lambda: network(x))
    return network, compressor, x[:8]


def penalty(network, x):
    """A gradient penalty as in WGAN-GP."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


def expected_penalty(network, compressor, x):
    """The same by standard operations alone: masks and passed gradients are constant factors."""
    sites = {site.path: site for target in Target for site in compressor.sites(target)}

    def through(value, site):
        code = value.detach() / site.element_scale
        inside = (code.round() >= site.low) & (code.round() <= site.high) if site.is_quantizing else torch.tensor(True)
        factor = inside * (site.mask if site.is_pruning else 1)
        return value * factor + (site.value(value.detach()) - value.detach() * factor)

    x = x.clone().requires_grad_()
    weights = [through(latent(network[i]), sites[f"{i}.weight"]) for i in (0, 2)]
    hidden = through(nn.functional.linear(x, weights[0], network[0].bias), sites["0"])
    hidden = through(torch.tanh(hidden), sites["1"])
    output = nn.functional.linear(hidden, weights[1], network[2].bias)
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


@states
@pytest.mark.parametrize("form", ["eager", "static", "bank"])
@pytest.mark.parametrize("scale", ["power_of_two", "float"])
def test_a_gradient_penalty_has_the_gradient_of_its_formula(stage, fires, form, scale):
    network, compressor, x = compressed(stage, fires, scale)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(expected_penalty(network, compressor, x), parameters, allow_unused=True)
    compressor.static = form != "eager"
    if form == "bank":
        with compressor.bank().serving():
            got = penalty(network, x)
    else:
        got = penalty(network, x)
    for mine, formula in zip(torch.autograd.grad(got, parameters, allow_unused=True), expected, strict=True):
        if formula is None:
            assert mine is None or not mine.any()
        else:
            torch.testing.assert_close(mine, formula)


@states
@pytest.mark.parametrize("static", [False, True])
def test_transforms_give_what_backward_gives(stage, fires, static):
    network, compressor, x = compressed(stage, fires)
    compressor.static = static
    parameters = dict(network.named_parameters())

    def loss(parameters, sample):
        return functional_call(network, parameters, (sample[None],)).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        gradients = torch.autograd.grad(network(sample[None]).square().sum(), list(parameters.values()))
        for mine, name in zip(gradients, parameters, strict=True):
            torch.testing.assert_close(per_sample[name][i], mine)


@states
def test_forward_and_reverse_mode_agree(stage, fires):
    network, _compressor, x = compressed(stage, fires)
    direction = torch.randn_like(x)
    value, tangent = jvp(network, (x,), (direction,))
    jacobian = jacrev(network)(x)
    assert torch.equal(value, network(x))
    torch.testing.assert_close(tangent, torch.einsum("ijkl,kl->ij", jacobian, direction))
    with torch.autograd.forward_ad.dual_level():
        dual = network(torch.autograd.forward_ad.make_dual(x, direction))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent)


@states
def test_ensembles_of_weights_run_at_once(stage, fires):
    network, _compressor, x = compressed(stage, fires)
    weights = {name: torch.stack([p, 0.5 * p]) for name, p in network.named_parameters()}
    together = vmap(lambda w: functional_call(network, w, (x,)))(weights)
    for i in (0, 1):
        alone = functional_call(network, {name: w[i] for name, w in weights.items()}, (x,))
        torch.testing.assert_close(together[i], alone)
