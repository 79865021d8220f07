import copy
import io
import random

import pytest
import torch
from torch import nn

from qp_runner.compress import CalibrationError, Compressor, Settings, SiteSelection, pruned_count
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Stage, Target, TargetState

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def train(network, steps, *, seed=5):
    """SGD steps on random batches that depend on the seed alone; returns the losses."""
    random_batches = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    losses = []
    for _ in range(steps):
        x, y = torch.randn(8, 2, 8, 8, generator=random_batches), torch.randint(4, (8,), generator=random_batches)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def site(compressor, path):
    return next(s for target in Target for s in compressor.sites(target) if s.path == path)


def state_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_before_its_first_event_training_is_bit_identical(build, attach):
    plain, attached = build(), build()
    compressor = attach(attached)
    torch.manual_seed(9)
    expected = train(plain, 6)
    torch.manual_seed(9)
    assert train(attached, 6) == expected
    compressor.detach()
    assert state_equal(plain.state_dict(), attached.state_dict())


def test_an_inactive_site_hands_on_the_very_tensor(build, attach):
    network = build()
    compressor = attach(network)
    x = torch.randn(2, 3)
    assert all(s(x) is x for target in Target for s in compressor.sites(target))
    assert network[0].weight is network[0].parametrizations.weight.original


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


def test_detach_leaves_the_network_with_its_latent_weights(build, attach, stage, passes, images):
    network, untouched = build().eval(), build().eval()
    compressor = attach(network)
    compressor.enter(stage(), run=passes(network))
    assert not torch.equal(network(images()), untouched(images()))
    compressor.detach()
    assert state_equal(network.state_dict(), untouched.state_dict())
    assert torch.equal(network(images()), untouched(images()))
    assert not any(m._forward_hooks for m in network.modules())
    assert type(network[0]) is nn.Conv2d


def test_pruned_elements_are_exactly_zero_at_every_step(build, attach, stage, passes):
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


def test_codes_stay_in_range_and_on_the_grid(build, attach, stage, passes, images):
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


def test_weight_masks_and_scales_follow_their_definitions(build, attach, stage, passes):
    network = build()
    latent = {i: network[i].weight.detach().clone() for i in (0, 3, 8)}
    compressor = attach(network)
    compressor.enter(stage(0.4, 4), run=passes(network))
    for i, weight in latent.items():
        s = site(compressor, f"{i}.weight")
        kept = sorted(weight.abs().flatten().tolist())[pruned_count(weight.numel(), 0.4)]
        assert torch.equal(s.mask, (weight.abs() >= kept).float())
        for channel, scale in enumerate(s.scale.flatten().tolist()):
            values = (weight * s.mask)[channel].flatten().tolist()
            errors = [sum((2.0**-d * min(max(round(v * 2.0**d), -8), 7) - v) ** 2 for v in values) for d in range(12)]
            assert scale == 2.0 ** -errors.index(min(errors))


def test_activation_mask_ranks_the_mean_magnitude_of_what_the_module_computes(build, attach, stage, passes, images):
    network = build().eval()
    expected = network[:3](images()).abs().double().mean(0)
    compressor = attach(network, activation=("2",))
    compressor.enter(stage(fires={PA}), run=passes(network))
    order = sorted(range(expected.numel()), key=lambda i: (expected.flatten()[i].item(), i))
    mask = torch.ones(expected.numel())
    mask[order[: expected.numel() // 2]] = 0
    assert torch.equal(site(compressor, "2").mask.flatten(), mask)


def test_activation_scale_sees_masked_and_nowhere_quantized_values(build, attach, stage, passes, images):
    network = build().eval()
    compressor = attach(network)
    compressor.enter(stage(fires={PA}), run=passes(network))
    values = network[:6](images()).detach().flatten().double()
    for bits in (5, 8, 5):  # quantizing again forgets the scales there were
        compressor.enter(stage(bits=bits, fires={QA}), run=passes(network))
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        errors = [float(((values * 2**d).round().clamp(low, high) / 2**d - values).square().sum()) for d in range(-2, 12)]
        assert site(compressor, "5").scale == 2.0 ** -(errors.index(min(errors)) - 2)


def test_pruning_after_quantizing_leaves_scales_frozen(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(fires={QW, QA}), run=passes(network))
    scales = {key: value.clone() for key, value in compressor.state_dict().items() if key.endswith("scale")}
    train(network, 3)
    compressor.enter(stage(fires={PW, PA}), run=passes(network))
    assert all(torch.equal(compressor.state_dict()[key], scale) for key, scale in scales.items())
    assert compressor.sparsity(Target.WEIGHT) == pytest.approx(0.5, abs=0.01)


def test_an_element_pruned_earlier_may_return(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(fires={PW}), run=passes(network))
    pruned = site(compressor, "3.weight").mask == 0
    with torch.no_grad():
        network[3].parametrizations.weight.original[pruned] += 10
    compressor.enter(stage(fires={PW}), run=passes(network))
    assert (site(compressor, "3.weight").mask[pruned] == 1).all()


def test_pruned_weights_get_no_gradient(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    for fires in ({PW}, {QW}):
        compressor.enter(stage(fires=fires), run=passes(network))
        network.zero_grad()
        network(images()).square().sum().backward()
        mask = site(compressor, "3.weight").mask
        gradient = network[3].parametrizations.weight.original.grad
        assert (gradient[mask == 0] == 0).all()
        assert (gradient[mask == 1] != 0).any()


def test_coinciding_events_act_alike_in_whatever_order_they_are_written(build, attach, passes):
    states = []
    for seed in range(4):
        fires = [PW, PA, QW, QA]
        random.Random(seed).shuffle(fires)
        network = build()
        compressor = attach(network)
        state = TargetState(0.5, 8)
        compressor.enter(Stage(0, 0, state, state, frozenset(fires)), run=passes(network))
        states.append(compressor.state_dict())
    assert all(state_equal(states[0], state) for state in states)


def test_the_size_of_calibration_batches_does_not_matter(build, attach, stage, passes):
    states = []
    for size in (3, 24):
        network = build()
        compressor = attach(network)
        compressor.enter(stage(), run=passes(network, size))
        states.append(compressor.state_dict())
    assert state_equal(*states)


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
def test_entering_disturbs_nothing(build, attach, stage, images, scale):
    network = build().train()
    network[4].eval()
    compressor = attach(network, scale=scale, sample_limit=100)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    random_state = torch.get_rng_state()

    def run():
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in network.modules())
        network.train()  # a task that sets modes itself: its norms move, and must be put back
        network(images() + torch.rand(()))

    compressor.enter(stage(), run=run)
    assert [module.training for module in network] == [True] * 4 + [False] + [True] * 4
    assert state_equal(dict(network.named_buffers()), buffers)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_failing_calibration_puts_everything_back(build, attach, stage):
    network = build().train()
    compressor = attach(network)

    def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compressor.enter(stage(fires={PA}), run=run)
    assert all(module.training for module in network.modules())
    assert all(s.before is None and s.after is None for s in compressor.sites(Target.ACTIVATION))


def test_a_fresh_compressor_continues_from_a_saved_state_bit_for_bit(build, attach, stage, passes):
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


def test_bits_32_switches_quantization_off_again(build, attach, stage, passes, images):
    network = build().eval()
    expected = network(images())
    compressor = attach(network)
    compressor.enter(stage(bits=8, fires={QW, QA}), run=passes(network))
    assert (compressor.bits(Target.WEIGHT), compressor.bits(Target.ACTIVATION)) == (8, 8)
    compressor.enter(stage(bits=32, fires={QW, QA}), run=passes(network))
    assert (compressor.bits(Target.WEIGHT), compressor.bits(Target.ACTIVATION)) == (32, 32)
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


def test_events_act_alike_in_static_form(build, attach, stage, passes, images):
    states = []
    for static in (False, True):
        network = build()
        compressor = attach(network)
        compressor.trace(lambda network=network: network(images(1)))
        compressor.static = static
        compressor.enter(stage(), run=passes(network))
        states.append(compressor.state_dict())
    assert state_equal(*states)


def test_channel_granularity_prunes_whole_channels_at_any_size(build, attach, stage, images):
    network = build()[:6].eval()
    compressor = attach(network, granularity="channel")

    def run():
        network(images())
        network(images()[:, :, :6, :5])

    compressor.enter(stage(fires={PA}), run=run)
    mask = site(compressor, "2").mask
    assert mask.shape == (6, 1, 1)
    assert int((mask == 0).sum()) == 3
    output = network[:3](torch.randn(2, 2, 11, 7))
    assert (output[:, mask.flatten() == 0] == 0).all()
    assert compressor.sparsity(Target.ACTIVATION) == pytest.approx(6 / 11)  # 3 of 6 and, rounded half up, 3 of 5


def test_another_image_size_needs_channel_granularity(build, attach, stage, passes, images):
    network = build()
    compressor = attach(network)
    compressor.enter(stage(fires={PA}), run=passes(network))
    with pytest.raises(ConfigError, match=r"compress\.granularity=element: site 2 .*compress\.granularity=channel"):
        network(torch.randn(1, 2, 10, 10))


class Twice(nn.Module):
    """Calls one module twice, and one never."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.idle = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(self.relu(self.conv(x))))


def test_a_module_called_twice_is_ranked_over_both_calls(stage, passes, images):
    torch.manual_seed(0)
    network = Twice()
    once = torch.relu(network.conv(images()))
    expected = torch.cat([once, torch.relu(network.conv(once))]).detach().abs().double().mean(0).flatten()
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("relu",)), settings=Settings())
    compressor.enter(stage(fires={PA}), run=passes(network))
    pruned = expected[compressor.sites(Target.ACTIVATION)[0].mask.flatten() == 0]
    assert pruned.max() <= expected.sort().values[expected.numel() // 2]


def test_a_site_that_never_runs_is_told(stage, passes):
    network = Twice()
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("idle",)), settings=Settings())
    with pytest.raises(ConfigError, match=r"model\.sites\.activation=idle: takes no part"):
        compressor.enter(stage(fires={QA}), run=passes(network))


def test_a_module_that_returns_no_tensor_is_told(stage):
    network = nn.Sequential(nn.LSTM(2, 3))
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("0",)), settings=Settings())
    for ask in (lambda run: compressor.trace(run), lambda run: compressor.enter(stage(fires={PA}), run=run)):
        with pytest.raises(ConfigError, match=r"model\.sites\.activation=0: .*LSTM returns a tuple"):
            ask(lambda: network(torch.randn(4, 1, 2)))


def test_diverged_weights_and_activations_name_their_site(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    with torch.no_grad():
        network[3].bias.fill_(float("nan"))
    with pytest.raises(CalibrationError, match="site 5"):
        compressor.enter(stage(fires={PA}), run=passes(network))
    with torch.no_grad():
        network[3].parametrizations.weight.original.fill_(float("inf"))
    with pytest.raises(CalibrationError, match=r"site 3\.weight"):
        compressor.enter(stage(fires={QW}), run=passes(network))


def test_tied_weights_are_one_site(stage):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    compressor.enter(stage(fires={PW}), run=lambda: None)
    assert len(compressor.sites(Target.WEIGHT)) == 1
    assert torch.equal(network[0].weight, network[2].weight)
    assert compressor.parameter_count() == 16 + 8


def test_transposed_convolutions_are_scaled_by_output_channel(stage):
    network = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    with torch.no_grad():
        network[0].parametrizations.weight.original[:, 2] *= 100
    compressor.enter(stage(fires={QW}), run=lambda: None)
    scale = compressor.sites(Target.WEIGHT)[0].scale
    assert scale.shape == (1, 5, 1, 1)
    assert scale.flatten().argmax() == 2


def test_several_networks_are_told_apart_by_prefix(build, stage):
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
        ({"calibration_samples": 0}, r"calibration\.samples"),
    ]:
        with pytest.raises(ConfigError, match=rf"compress\.{key}="):
            Settings(**bad)
