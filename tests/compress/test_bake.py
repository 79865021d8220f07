import pickle

import pytest
import torch

from qp_runner.compress.attach import is_compressed
from qp_runner.schedule import Op, Target


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_a_baked_network_is_plain_and_equal_to_the_last_bit(build, attach, stage, passes, images, scale, granularity):
    network = build().eval()
    compressor = attach(network, scale=scale, granularity=granularity, unpruned=("0.weight",))
    compressor.enter(stage(0.5, 5), run=passes(network))
    baked = compressor.bake(network)
    assert torch.equal(baked(images(50, seed=4)), network(images(50, seed=4)))
    assert [type(module) for module in baked.modules()] == [type(module) for module in build().modules()]
    copy = pickle.loads(pickle.dumps(baked))
    assert torch.equal(copy(images()), network(images()))


def test_baking_changes_nothing_about_the_network(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    expected = network.eval()(images())
    baked = compressor.bake(network)
    with torch.no_grad():
        baked[0].weight.zero_()
    del baked
    assert torch.equal(network(images()), expected)
    assert is_compressed(type(network[0]))
    compressor.detach()
    assert list(network.state_dict()) == list(build().state_dict())


def test_without_events_a_baked_network_is_a_copy(build, attach):
    network = build()
    baked = attach(network).bake(network)
    assert str(baked) == str(build())
    assert list(baked.state_dict()) == list(build().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(baked.parameters(), build().parameters(), strict=True))


def test_a_baked_network_can_be_scripted_and_exported(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    baked = compressor.bake(network)
    exported = torch.export.export(baked, (images(2),)).module()
    assert torch.equal(exported(images(2)), network(images(2)))


def test_activations_only(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(fires={(Op.QUANTIZE, Target.ACTIVATION)}), run=passes(network))
    assert torch.equal(compressor.bake(network)(images()), network(images()))
