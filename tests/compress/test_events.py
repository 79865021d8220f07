import random

import pytest
import torch
from torch import nn

from qp_runner.compress import CalibrationError, Compressor, Settings, SiteSelection, pruned_count
from qp_runner.compress.attach import latent
from qp_runner.errors import ConfigError
from qp_runner.schedule import Op, Stage, Target, TargetState

PW, PA = (Op.PRUNE, Target.WEIGHT), (Op.PRUNE, Target.ACTIVATION)
QW, QA = (Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)


def site(compressor, path):
    return next(s for target in Target for s in compressor.sites(target) if s.path == path)


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
        errors = [
            float(((values * 2**d).round().clamp(low, high) / 2**d - values).square().sum()) for d in range(-2, 12)
        ]
        assert site(compressor, "5").scale == 2.0 ** -(errors.index(min(errors)) - 2)


def test_pruning_after_quantizing_leaves_scales_frozen(build, attach, stage, passes, train):
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
        latent(network[3])[pruned] += 10
    compressor.enter(stage(fires={PW}), run=passes(network))
    assert (site(compressor, "3.weight").mask[pruned] == 1).all()


def test_the_order_in_which_coinciding_events_are_written_does_not_matter(build, attach, passes, state_equal):
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


def test_the_size_of_calibration_batches_does_not_matter(build, attach, stage, passes, state_equal):
    states = []
    for size in (3, 24):
        network = build()
        compressor = attach(network)
        compressor.enter(stage(), run=passes(network, size))
        states.append(compressor.state_dict())
    assert state_equal(*states)


@pytest.mark.parametrize("scale", ["power_of_two", "float"])
def test_entering_disturbs_nothing(build, attach, stage, images, scale, train, state_equal):
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


def test_a_failing_calibration_puts_everything_back(build, attach, stage, train):
    network = build().train()
    compressor = attach(network)

    def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compressor.enter(stage(fires={PA}), run=run)
    assert all(module.training for module in network.modules())
    assert all(s.before is None and s.after is None for s in compressor.sites(Target.ACTIVATION))


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


def test_a_site_that_never_runs_is_named(stage, passes):
    network = Twice()
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("idle",)), settings=Settings())
    with pytest.raises(ConfigError, match=r"model\.sites\.activation=idle: takes no part"):
        compressor.enter(stage(fires={QA}), run=passes(network))


def test_a_module_that_returns_no_tensor_is_named(stage):
    class Wrapped(nn.Module):
        def forward(self, x):
            return {"x": x}

    network = nn.Sequential(Wrapped())
    compressor = Compressor({"n": network}, sites=SiteSelection((), ("0",)), settings=Settings())
    for ask in (lambda run: compressor.trace(run), lambda run: compressor.enter(stage(fires={PA}), run=run)):
        with pytest.raises(ConfigError, match=r"model\.sites\.activation=0: .*but returns a dict"):
            ask(lambda: network(torch.randn(4, 1, 2)))


def test_diverged_weights_and_activations_name_their_site(build, attach, stage, passes):
    network = build()
    compressor = attach(network)
    with torch.no_grad():
        network[3].bias.fill_(float("nan"))
    with pytest.raises(CalibrationError, match="site 5"):
        compressor.enter(stage(fires={PA}), run=passes(network))
    with torch.no_grad():
        latent(network[3]).fill_(float("inf"))
    with pytest.raises(CalibrationError, match=r"site 3\.weight"):
        compressor.enter(stage(fires={QW}), run=passes(network))


def test_bits_32_switches_quantization_off_again(build, attach, stage, passes, images):
    network = build().eval()
    expected = network(images())
    compressor = attach(network)
    compressor.enter(stage(bits=8, fires={QW, QA}), run=passes(network))
    assert (compressor.bits(Target.WEIGHT), compressor.bits(Target.ACTIVATION)) == (8, 8)
    compressor.enter(stage(bits=32, fires={QW, QA}), run=passes(network))
    assert (compressor.bits(Target.WEIGHT), compressor.bits(Target.ACTIVATION)) == (32, 32)
    assert torch.equal(network(images()), expected)


def test_transposed_convolutions_are_scaled_by_output_channel(stage):
    network = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    with torch.no_grad():
        latent(network[0])[:, 2] *= 100
    compressor.enter(stage(fires={QW}), run=lambda: None)
    scale = compressor.sites(Target.WEIGHT)[0].scale
    assert scale.shape == (1, 5, 1, 1)
    assert scale.flatten().argmax() == 2


@pytest.mark.parametrize("layer", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(8, 8, 8), (4, 8, 4), (4, 6, 2), (4, 6, 1)])
def test_every_output_of_a_transposed_grouped_convolution_has_its_scale(stage, layer, inputs, outputs, groups):
    torch.manual_seed(0)
    module = layer(inputs, outputs, 2, 2, 1, groups=groups, bias=False)
    network = nn.Sequential(module)
    per_group = outputs // groups
    with torch.no_grad():
        for output in range(outputs):  # each in its own range
            rows = slice(output // per_group * inputs // groups, (output // per_group + 1) * inputs // groups)
            module.weight[rows, output % per_group] *= 16.0**output
    compressor = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    bank = compressor.bank()
    compressor.enter(stage(bits=6, fires={QW}), run=lambda: None)
    (weight_site,) = compressor.sites(Target.WEIGHT)
    scale = weight_site.scale.flatten()
    assert len(scale) == len(set(scale.tolist())) == outputs
    weight = latent(module)
    x = torch.randn(2, inputs, *[5] * (weight.dim() - 2))
    for output in range(outputs):  # a layer with this output alone, quantized by this scale
        group = output // per_group
        rows = slice(group * inputs // groups, (group + 1) * inputs // groups)
        alone = weight[rows, output % per_group : output % per_group + 1]
        quantized = (alone / scale[output]).round().clamp(-32, 31) * scale[output]
        convolve = getattr(nn.functional, f"conv_transpose{weight.dim() - 2}d")
        expected = convolve(x[:, rows], quantized, stride=2, padding=1)
        torch.testing.assert_close(network(x)[:, output : output + 1], expected)
    value = module.weight
    with bank.serving():
        assert torch.equal(module.weight, value)
    state = compressor.state_dict()
    compressor.detach()
    fresh = Compressor({"n": network}, sites=SiteSelection(("*",), ()), settings=Settings())
    fresh.load_state_dict(state)
    assert torch.equal(module.weight, value)
    fresh.static = True
    assert torch.equal(module.weight, value)
