import copy
import io

import pytest
import torch

from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def test_a_fresh_compressor_continues_from_a_saved_state_bit_for_bit(build, attach, stage, passes, train, state_equal):
    network = build()
    compressor = attach(network)
    train(network, 2)
    compressor.enter(stage(0.5, 32, fires={PW, PA}), run=passes(network))
    compressor.enter(stage(0.5, 8, fires={QW}), run=passes(network))
    file = io.BytesIO()
    torch.save({"network": network.state_dict(), "compressor": compressor.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert not any("mask" in key for key in saved["network"])

    def go_on(network, compressor):
        torch.manual_seed(3)
        losses = train(network, 2)
        compressor.enter(stage(0.5, 4, fires={QA}), run=passes(network))
        return losses + train(network, 2)

    other = build(seed=7)
    fresh = attach(other)
    fresh.load_state_dict(saved["compressor"])
    other.load_state_dict(saved["network"])
    assert fresh.state(Target.WEIGHT) == compressor.state(Target.WEIGHT)
    assert go_on(other, fresh) == go_on(network, compressor)
    assert state_equal(fresh.state_dict(), compressor.state_dict())


def test_loading_a_state_with_nothing_on_switches_off(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    nothing = copy.deepcopy(compressor.state_dict())
    expected = network(images())
    compressor.enter(stage(), run=passes(network))
    compressor.load_state_dict(nothing)
    assert torch.equal(network(images()), expected)


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
def test_static_form_computes_the_same(build, attach, stage, passes, images, scale):
    network = build().eval()
    compressor = attach(network, scale=scale)
    compressor.trace(lambda: network(images(1)))
    addresses = {key: buffer.data_ptr() for key, buffer in compressor.named_buffers()}
    for fires in [set(), {PW, PA}, {QW}, {QA}]:
        compressor.enter(stage(fires=fires), run=passes(network))
        outputs, gradients = [], []
        for compressor.static in (False, True):
            network.zero_grad()
            outputs.append(network(images()))
            outputs[-1].square().sum().backward()
            gradients.append([p.grad.clone() for p in network.parameters()])
        assert torch.equal(*outputs)
        for first, second in zip(*gradients, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert {key: buffer.data_ptr() for key, buffer in compressor.named_buffers()} == addresses  # changed in place


def test_events_act_alike_in_static_form(build, attach, stage, passes, images, state_equal):
    states = []
    for static in (False, True):
        network = build()
        compressor = attach(network)
        compressor.trace(lambda network=network: network(images(1)))
        compressor.static = static
        compressor.enter(stage(), run=passes(network))
        states.append(compressor.state_dict())
    assert state_equal(*states)


def test_one_compiled_graph_serves_every_stage(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.trace(lambda: network(images(1)))
    compressor.static = True
    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(network, backend=count, fullgraph=True)
    for fires in [set(), {PW}, {QW, QA}, {PA}]:
        compressor.enter(stage(fires=fires), run=passes(network))
        assert torch.equal(compiled(images()), network(images()))
    assert len(graphs) == 1
