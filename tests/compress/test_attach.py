"""What attaching leaves as it was, and what copies of an attached network do."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.compress.attach import latent
from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def test_parameters_keep_their_names_and_their_order(build, attach, stage, passes):
    network = build()
    before, names = list(network.parameters()), list(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    assert all(a is b for a, b in zip(network.parameters(), before, strict=True))
    assert list(network.state_dict()) == names
    assert all(p is q for p, q in zip(optimizer.param_groups[0]["params"], network.parameters(), strict=True))
    compressor.detach()
    assert all(a is b for a, b in zip(network.parameters(), before, strict=True))


def test_a_checkpoint_of_the_plain_network_loads_into_the_attached_one(build, attach, stage, passes, images):
    network, other = build(), build(seed=3).eval()
    compressor = attach(network)
    network.load_state_dict(other.state_dict())
    assert torch.equal(network.eval()(images()), other(images()))
    compressor.enter(stage(), run=passes(network))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other[0].weight, latent(network[0]))


@pytest.mark.parametrize("make", [copy.deepcopy, lambda network: AveragedModel(network).module])
def test_a_copy_made_after_attaching_follows_events(build, attach, stage, passes, images, make):
    network = build().eval()
    compressor = attach(network)
    copied = make(network).eval()
    for fires in ({PW, PA}, {QW}, {QA}):
        compressor.enter(stage(0.5, 4, fires=fires), run=passes(network))
        assert torch.equal(copied(images()), network(images()))
    with torch.no_grad():
        latent(copied[8]).mul_(0.5)
    assert not torch.equal(copied(images()), network(images()))
    mask = compressor.sites(Target.WEIGHT)[0].mask
    assert (copied[0].weight[mask == 0] == 0).all()


def test_a_copy_made_before_attaching_stays_float(build, attach, stage, passes, images):
    network = build().eval()
    averaged = AveragedModel(network)
    expected = averaged(images())
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    assert torch.equal(averaged(images()), expected)
    averaged.update_parameters(network)
    assert torch.equal(averaged.module[3].weight, latent(network[3]))
    assert torch.equal(averaged.module[3].bias, network[3].bias)


def test_a_copied_compressor_has_sites_and_networks_of_its_own(build, attach, stage, passes, images, state_equal):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(fires={PW, PA}), run=passes(network))
    expected, state = network(images()), copy.deepcopy(compressor.state_dict())
    other = copy.deepcopy(compressor)
    twin = other.networks["network"]
    assert torch.equal(twin(images()), expected)
    other.enter(stage(bits=3, fires={QW, QA}), run=passes(twin))
    assert not torch.equal(twin(images()), expected)
    assert torch.equal(network(images()), expected)
    assert state_equal(compressor.state_dict(), state)


def test_a_pickled_network_takes_its_sites_along(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    expected = network(images())
    loaded = pickle.loads(pickle.dumps(network))
    compressor.enter(stage(bits=2, fires={QW, QA}), run=passes(network))
    assert torch.equal(loaded(images()), expected)


def test_a_bank_serves_the_network_and_not_its_copy(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        latent(copied[0]).mul_(3)
    compressor.enter(stage(fires={PW, QW}), run=passes(network))
    expected = copied[0].weight
    with compressor.bank().serving():
        assert torch.equal(copied[0].weight, expected)
        assert not torch.equal(network[0].weight, expected)


def test_other_weights_in_place_of_a_networks_own_are_compressed(build, attach, stage, passes, images):
    network, other = build().eval(), build(seed=4).eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    got = torch.func.functional_call(network, other.state_dict(), (images(),))
    network.load_state_dict(other.state_dict())
    assert torch.equal(got, network(images()))


def test_a_module_may_be_given_another_parameter(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(fires={PW}), run=passes(network))
    network[3].weight = nn.Parameter(torch.ones_like(network[3].weight))
    mask = next(site.mask for site in compressor.sites(Target.WEIGHT) if site.path == "3.weight")
    assert torch.equal(network[3].weight, mask)


def test_one_network_has_one_compressor_at_a_time(build, attach):
    network = build()
    compressor = attach(network)
    with pytest.raises(RuntimeError, match=r"site 0\.weight: .*detach the other compressor"):
        attach(network)
    compressor.detach()
    attach(network)


class Tied(nn.Module):
    """A language model's embedding and output layer share their weight."""

    def __init__(self):
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.relu(self.body(self.embed(tokens))))


def test_everything_that_reads_a_shared_weight_computes_with_its_compressed_value(stage):
    torch.manual_seed(0)
    network, tokens = Tied(), torch.arange(11)[None]
    compressor = Compressor({"n": network}, sites=SiteSelection(("head*",), ()), settings=Settings())
    compressor.enter(stage(fires={PW, QW}), run=lambda: None)
    (site,) = compressor.sites(Target.WEIGHT)
    expected = site.value(latent(network.head))
    assert torch.equal(network.embed(tokens)[0], expected)
    assert torch.equal(network.head.weight, expected)
    baked = compressor.bake(network)
    assert baked.head.weight is baked.embed.weight
    assert torch.equal(baked(tokens), network(tokens))
    compressor.detach()
    assert network.head.weight is network.embed.weight
    assert type(network.embed) is nn.Embedding
