import pytest
import torch
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection, pruned_count
from qp_runner.compress.attach import latent
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Target

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def site(compressor, path):
    return next(s for target in Target for s in compressor.sites(target) if s.path == path)


def test_before_its_first_event_training_is_bit_identical(build, attach, train, state_equal):
    plain, attached = build(), build()
    compressor = attach(attached)
    torch.manual_seed(9)
    expected = train(plain, 6)
    torch.manual_seed(9)
    assert train(attached, 6) == expected
    compressor.detach()
    assert state_equal(plain.state_dict(), attached.state_dict())


def test_an_inactive_site_returns_the_same_tensor(build, attach):
    network = build()
    compressor = attach(network)
    x = torch.randn(2, 3)
    assert all(s(x) is x for target in Target for s in compressor.sites(target))
    assert network[0].weight is latent(network[0])


def test_parameters_stay_the_same_objects(build, attach):
    network = build()
    before = dict(network.named_parameters())
    compressor = attach(network)
    assert {id(p) for p in network.parameters()} == {id(p) for p in before.values()}
    assert not list(compressor.parameters())
    compressor.detach()
    after = dict(network.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_detach_leaves_the_network_with_its_latent_weights(build, attach, stage, passes, images, state_equal):
    network, untouched = build().eval(), build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    assert not torch.equal(network(images()), untouched(images()))
    compressor.detach()
    assert state_equal(network.state_dict(), untouched.state_dict())
    assert torch.equal(network(images()), untouched(images()))
    assert not any(m._forward_hooks for m in network.modules())
    assert type(network[0]) is nn.Conv2d


def test_pruned_elements_are_exactly_zero_at_every_step(build, attach, stage, passes, train):
    network = build()
    compressor = attach(network, unpruned=("0.weight",))
    train(network, 2)
    compressor.enter(stage(0.5, 6), run=passes(network))
    seen = {}
    for i in (2, 5):
        network[i].register_forward_hook(lambda _m, _a, out, i=i: seen.update({str(i): out.detach().clone()}))
    for step in range(3):
        train(network, 1, seed=step)
        for path, output in seen.items():
            mask = site(compressor, path).mask
            assert int((mask == 0).sum()) == pruned_count(mask.numel(), 0.5)
            assert (output[:, mask == 0] == 0).all()
        for i in (3, 8):
            mask = site(compressor, f"{i}.weight").mask
            assert int((mask == 0).sum()) == pruned_count(mask.numel(), 0.5)
            assert (network[i].weight[mask == 0] == 0).all()
    assert site(compressor, "0.weight").mask.all()


def test_codes_stay_in_range_and_on_the_grid(build, attach, stage, passes, images, train):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(0.5, 3), run=passes(network))
    train(network, 3)
    seen = {}
    for i in (2, 5):
        network[i].register_forward_hook(lambda _m, _a, out, i=i: seen.update({str(i): out}))
    network(10 * images())
    tensors = {**seen, **{f"{i}.weight": network[i].weight for i in (0, 3, 8)}}
    for path, tensor in tensors.items():
        codes = tensor / site(compressor, path).scale
        assert torch.equal(codes, codes.round())
        assert codes.min() >= -4
        assert codes.max() <= 3


def test_pruned_weights_get_no_gradient(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    for fires in ({PW}, {QW}):
        compressor.enter(stage(fires=fires), run=passes(network))
        network.zero_grad()
        network(images()).square().sum().backward()
        mask = site(compressor, "3.weight").mask
        gradient = latent(network[3]).grad
        assert (gradient[mask == 0] == 0).all()
        assert (gradient[mask == 1] != 0).any()


def test_samples_of_several_sizes_at_an_event_need_channel_granularity(build, attach, stage):
    network = build()[:3]
    compressor = attach(network, activation=("2",))

    def run():
        network(torch.randn(2, 2, 8, 8))
        network(torch.randn(2, 2, 10, 10))

    with pytest.raises(ConfigError, match=r"compress\.granularity=element: site 2 .*compress\.granularity=channel"):
        compressor.enter(stage(fires={PA}), run=run)


def test_tied_weights_are_one_site(stage):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    compressor.enter(stage(fires={PW}), run=lambda: None)
    assert len(compressor.sites(Target.WEIGHT)) == 1
    assert torch.equal(network[0].weight, network[2].weight)
    assert compressor.parameter_count() == 16 + 8


def test_paths_of_several_networks_have_a_prefix(build, stage):
    networks = {"a": build(), "b": build(1)}
    selection = SiteSelection(("a.*",), ("*.2",))
    compressor = Compressor(networks, sites=selection, settings=Settings())
    assert [s.path for s in compressor.sites(Target.WEIGHT)] == ["a.0.weight", "a.3.weight", "a.8.weight"]
    assert [s.path for s in compressor.sites(Target.ACTIVATION)] == ["a.2", "b.2"]


def test_a_schedule_without_sites_is_refused_beforehand(build, stage):
    compressor = Compressor({"n": build()}, sites=SiteSelection(("0.weight",), ("2",), ("2",)), settings=Settings())
    with pytest.raises(ConfigError, match=r"model\.sites\.unpruned"):
        compressor.check([stage(fires={PA})])
    compressor.check([stage(fires={PW, QA})])
    empty = Compressor({"n": build()}, sites=SiteSelection(("*",), ()), settings=Settings())
    with pytest.raises(ConfigError, match=r"model\.sites\.activation"):
        empty.check([stage(fires={QA})])


def test_summary_records_every_site(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network, unpruned=("8.weight",))
    compressor.trace(lambda: network(images(1)))
    records = {record.path: record for record in compressor.summary()}
    assert records["2"].elements == 6 * 8 * 8
    assert records["2"].scale is None
    compressor.enter(stage(0.5, 4), run=passes(network))
    records = {record.path: record for record in compressor.summary()}
    assert list(records) == ["0.weight", "3.weight", "8.weight", "2", "5"]
    first, last = records["3.weight"], records["8.weight"]
    assert (first.elements, first.mask_zeros, first.bits, len(first.scale)) == (270, 135, 4, 5)
    assert first.value_zeros == int((network[3].weight == 0).sum()) >= 135
    assert (last.prunable, last.mask_zeros) == (False, 0)
    assert (records["5"].elements, records["5"].mask_zeros, records["5"].sparsity) == (45, 23, 23 / 45)
    assert compressor.sparsity(Target.ACTIVATION) == (192 + 23) / (384 + 45)


def test_bad_settings_are_refused():
    for bad, key in [
        ({"scale": "int"}, "scale"),
        ({"granularity": "row"}, "granularity"),
        ({"quantiles": (0.9, 0.1)}, "quantiles"),
        ({"sample_limit": 1}, "sample_limit"),
    ]:
        with pytest.raises(ConfigError, match=rf"compress\.{key}="):
            Settings(**bad)
