"""Weights computed all at once are the weights computed one by one."""

import pytest
import torch

from qp_runner.compress import WeightBank
from qp_runner.compress.attach import latent
from qp_runner.schedule import Op, Target

PW, QW = (Op.PRUNE, Target.WEIGHT), (Op.QUANTIZE, Target.WEIGHT)


def both_ways(network, compressor, images, dtype):
    """Weights, outputs and gradients: site by site, then from the bank."""
    for banked in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            if banked:
                with compressor.bank().serving(dtype):
                    weights = [network[index].weight.to(dtype) for index in (0, 3, 8)]
                    output = network(images())
            else:
                weights = [network[index].weight.to(dtype) for index in (0, 3, 8)]
                output = network(images())
        output.float().square().sum().backward()
        yield weights, output, [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_sites(build, attach, stage, passes, images, dtype, layout):
    network = build().eval().to(memory_format=layout)
    compressor = attach(network, unpruned=("0.weight",))
    compressor.bank()
    for fires in [set(), {PW}, {QW}, {PW, QW}]:
        compressor.enter(stage(sparsity=0.6, bits=3, fires=fires), run=passes(network))
        (weights, output, gradients), (w, o, g) = both_ways(network, compressor, images, dtype)
        assert all(torch.equal(*pair) for pair in zip(weights, w, strict=True))
        torch.testing.assert_close(output, o)
        for first, second in zip(gradients, g, strict=True):
            torch.testing.assert_close(first, second)


def test_events_and_loads_change_a_bank_in_place(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    bank = compressor.bank()
    start = {name: value.clone() for name, value in compressor.state_dict().items()}
    before = bank.kept.data_ptr(), bank.scale.data_ptr()
    compressor.enter(stage(fires={PW, QW}), run=passes(network))
    assert compressor.bank() is bank
    assert (bank.kept.data_ptr(), bank.scale.data_ptr()) == before
    assert bank.kept.float().mean() == pytest.approx(0.5, abs=0.01)
    assert bank.quantizing.all()
    compressor.load_state_dict(start)
    assert bank.kept.all()
    assert not bank.quantizing.any()


def test_afterwards_sites_compute_by_themselves(build, attach, images):
    network = build().eval()
    bank = attach(network).bank()
    assert isinstance(bank, WeightBank)
    with bank.serving():
        served = network[0].weight
    assert network[0].weight is not served
    assert network[0].weight is latent(network[0])
