"""Events that find no values, or too few of them."""

import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.attach import latent
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)
kinds = pytest.mark.parametrize("scale", ["power_of_two", "float"])


def linear(rows, **settings):
    """A linear layer with these weights, as one site."""
    network = nn.Sequential(nn.Linear(len(rows[0]), len(rows), bias=False))
    network[0].weight.data = torch.tensor(rows)
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings(**settings))
    return network[0], compressor, compressor.sites(Target.WEIGHT)[0]


def enter(compressor, stage):
    compressor.enter(stage, run=lambda: None)


@kinds
@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-39])
def test_quantizing_weights_without_a_value_is_refused(stage, scale, value):
    _layer, compressor, _site = linear([[value, 0.0], [0.0, value]], scale=scale)
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=0\.weight: has only zeros .*\(quantize, weight\)"):
        enter(compressor, stage(fires={QW}))
    enter(compressor, stage(bits=32, fires={QW}))


@kinds
def test_a_channel_of_zeros_gets_the_scale_of_the_others(stage, scale):
    layer, compressor, site = linear([[0.5, 0.3], [0.0, 0.0], [4.0, 1.0]], scale=scale)
    enter(compressor, stage(fires={QW}))
    scales = site.scale.flatten()
    assert scales[1] == scales[2] > scales[0]
    with torch.no_grad():
        latent(layer)[1] = torch.tensor([0.3, 0.2])  # training brings values, below half of a scale of 1
    assert layer.weight[1].all()


@kinds
def test_a_channel_that_is_pruned_whole_keeps_the_scale_of_its_weights(stage, scale):
    layer, compressor, site = linear([[0.01, 0.02], [5.0, 3.0]], scale=scale)
    enter(compressor, stage(0.5, fires={PW}))
    assert site.mask.tolist() == [[0, 0], [1, 1]]
    enter(compressor, stage(fires={QW}))
    with torch.no_grad():
        latent(layer)[1] = 0.0
    enter(compressor, stage(0.5, fires={PW}))  # the channel returns
    torch.testing.assert_close(layer.weight[0], torch.tensor([0.01, 0.02]), rtol=0.02, atol=0)


@kinds
def test_quantiles_that_leave_only_zeros_do_not_clip(stage, scale):
    layer, compressor, _site = linear([[0.0] * 18 + [0.25, -0.25]], scale=scale, quantiles=(0.1, 0.9))
    enter(compressor, stage(fires={QW}))
    torch.testing.assert_close(layer.weight, latent(layer), rtol=0.02, atol=0)


@pytest.mark.parametrize("value", [2.5, -2.5, 1e-30, 1e30])
@kinds
def test_one_value_or_the_same_everywhere_is_met(stage, scale, value):
    for shape in ((1, 1), (3, 4)):
        layer, compressor, _site = linear(torch.full(shape, value).tolist(), scale=scale)
        enter(compressor, stage(bits=8, fires={QW}))
        torch.testing.assert_close(layer.weight, latent(layer), rtol=0.01, atol=0)


def dead():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    network[0].bias.data.fill_(-100)
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("1",)), settings=Settings())
    return compressor, lambda: network(torch.randn(8, 4))


def test_quantizing_an_activation_that_is_always_zero_is_refused(stage):
    compressor, run = dead()
    with pytest.raises(ConfigError, match=r"^model\.sites\.activation=1: has only zeros .*\(quantize, activation\)"):
        compressor.enter(stage(fires={QA}), run=run)


def test_pruning_what_is_all_zero_warns_and_names_the_site(stage, caplog):
    compressor, run = dead()
    compressor.enter(stage(fires={PA}), run=run)
    _layer, weights, _site = linear([[0.0, 0.0]])
    enter(weights, stage(fires={PW}))
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["site 1", "site 0.weight"]


def test_a_site_of_one_element_is_not_pruned_away(stage):
    network = nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 1))
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ("1",)), settings=Settings())
    compressor.enter(stage(0.9, fires={PW, PA}), run=lambda: network(torch.ones(2, 4)))
    assert [int(site.mask.sum()) for target in Target for site in compressor.sites(target)] == [1, 1, 1]
