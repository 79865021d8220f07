"""Both translation tasks, on a few made-up façades with tiny networks."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qp_runner.data import generated_facades, generated_facades_unpaired
from qp_runner.data.translation import as_uint8, scaled
from qp_runner.errors import ConfigError
from qp_runner.models import PatchGAN, ResnetGenerator, UNetGenerator
from qp_runner.tasks import PairedTranslationTask, UnpairedTranslationTask
from support import fit

PAIRED = generated_facades(size=32, train=16, val=4, test=4)
UNPAIRED = generated_facades_unpaired(size=24, train=8, val=4, test=4)
UNET = partial(UNetGenerator, width=4, depth=4, norm="instance", dropout_layers=1)
RESNET = partial(ResnetGenerator, width=4, blocks=1)
PATCH = partial(PatchGAN, width=4, layers=1, norm="instance")
PIX2PIX = {"generator": UNET, "discriminator": PATCH}
CYCLEGAN = {"a_to_b": RESNET, "b_to_a": RESNET, "discriminator_a": PATCH, "discriminator_b": PATCH}


def paired(**arguments):
    return PairedTranslationTask(**{"data": PAIRED, "networks": PIX2PIX, "batch_size": 4, "seed": 0} | arguments)


def unpaired(**arguments):
    return UnpairedTranslationTask(
        **{"data": UNPAIRED, "networks": CYCLEGAN, "batch_size": 2, "seed": 0, "pool": 3} | arguments
    )


both = pytest.mark.parametrize("make", [paired, unpaired])


def test_a_small_pix2pix_learns():
    task = paired(networks=PIX2PIX | {"generator": partial(UNET, width=8, dropout=0.0)})
    before = task.evaluate("test")
    fit(task, partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.999)), epochs=20)
    after = task.evaluate("test")
    assert after["l1"] < 0.65 * before["l1"]
    assert after["fid_small"] < before["fid_small"] / 2
    assert after["ssim"] > before["ssim"]


def test_a_small_cyclegan_finds_its_way_back():
    task = unpaired()
    before = task.evaluate("test")
    fit(task, partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.999)), epochs=8)
    after = task.evaluate("test")
    assert after["cycle_l1"] < 0.7 * before["cycle_l1"]
    assert after["fid_small"] < 0.7 * before["fid_small"]


def test_pix2pix_losses_are_the_published_ones():
    task = paired(networks=PIX2PIX | {"generator": partial(UNET, dropout=0.0)})
    batch = next(task.batches(0))
    made = task.generator(batch.a).detach()
    on_made, on_real = (task.discriminator(torch.cat([batch.a, image], 1)).sigmoid() for image in (made, batch.b))
    (first, judge_loss), (second, loss) = task.updates(batch)
    assert (first, second) == ("discriminator", "generator")
    assert judge_loss.item() == pytest.approx((-on_real.log().mean() - (1 - on_made).log().mean()).item() / 2, rel=1e-4)
    expected = -on_made.log().mean() + 100 * (made - batch.b).abs().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_cyclegan_losses_are_the_published_ones():
    task = unpaired()
    batch = next(task.batches(0))
    there, back, judge_a, judge_b = task.networks().values()
    made_b, made_a = there(batch.a), back(batch.b)
    adversarial = (judge_b(made_b) - 1).square().mean() + (judge_a(made_a) - 1).square().mean()
    cycle = F.l1_loss(back(made_b), batch.a) + F.l1_loss(there(made_a), batch.b)
    identity = F.l1_loss(there(batch.b), batch.b) + F.l1_loss(back(batch.a), batch.a)
    judged = sum((judge(real) - 1).square().mean() for judge, real in ((judge_a, batch.a), (judge_b, batch.b)))
    judged = judged + judge_a(made_a).square().mean() + judge_b(made_b).square().mean()  # the pool is still filling
    (first, loss), (second, judge_loss) = task.updates(batch)
    assert (first, second) == ("generators", "discriminators")
    assert loss.item() == pytest.approx((adversarial + 10 * cycle + 5 * identity).item(), rel=1e-4)
    assert judge_loss.item() == pytest.approx(judged.item() / 2, rel=1e-4)


@both
def test_the_metric_is_a_distance_with_its_numbers_of_images(make):
    task = make()
    measured = task.evaluate("val")
    assert (task.metric.name, task.metric.higher_is_better) == ("fid_small", False)
    assert measured["fid_small_n_real"] == measured["fid_small_n_generated"] == 4


def test_figures_of_pairs_agree_with_the_obvious_way():
    task = paired(eval_batch_size=3)
    task.generator.eval()
    with torch.no_grad():
        made = torch.cat([task.generator(scaled(a[None])) for a in PAIRED.test.a])
    gaps = [((one + 1) / 2 - b / 255).abs().mean().item() for one, b in zip(made, PAIRED.test.b, strict=True)]
    assert task.evaluate("test")["l1"] == pytest.approx(sum(gaps) / 4, rel=1e-4)


def test_the_two_generators_do_not_start_equal():
    there, back, *_ = unpaired().networks().values()
    assert not torch.equal(there.head.weight, back.head.weight)


def test_pools_are_stored_and_put_back():
    task, other = unpaired(), unpaired()
    fit(task, torch.optim.Adam, epochs=2)
    stored = {name: value.clone() for name, value in task.state_dict().items()}
    assert stored["pool_a"].abs().sum() > 0
    place = other.pool_a.images
    other.load_state_dict(stored)
    assert other.pool_a.images is place  # in place: a captured step goes on using it
    assert all(torch.equal(value, stored[name]) for name, value in other.state_dict().items())


def test_pictures_are_input_output_and_target():
    task = paired()
    pictures = task.pictures()
    assert len(pictures) == 4
    name, picture = next(iter(pictures.items()))
    assert name.endswith("__input__output__target")
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 32, 3 * 32 + 2 * 4)
    assert torch.equal(picture[:, :, :32], PAIRED.test.a[0])
    assert torch.equal(picture[:, :, -32:], PAIRED.test.b[0])
    task.generator.eval()
    with torch.no_grad():
        made = as_uint8(task.generator(scaled(PAIRED.test.a[:1])))[0]
    assert (picture[:, :, 36:68].int() - made.int()).abs().max() <= 1


def test_pictures_of_both_directions():
    pictures = unpaired().pictures()
    assert [name.partition("__")[0][:-1] for name in pictures] == ["a_to_b"] * 4 + ["b_to_a"] * 4
    assert torch.equal(pictures["b_to_a1__input__output__back"][:, :, :24], UNPAIRED.test.b[0])


class Grey(nn.Module):
    def __init__(self, *, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, 1)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize(
    ("make", "arguments", "key"),
    [
        (paired, {"data": UNPAIRED}, "data"),
        (paired, {"networks": {"network": UNET}}, "model.networks"),
        (paired, {"networks": PIX2PIX | {"generator": Grey}}, "model"),
        (paired, {"networks": PIX2PIX | {"generator": partial(UNET, depth=6)}}, "model"),
        (paired, {"networks": PIX2PIX | {"generator": partial(UNET, widht=3)}}, "model.networks.generator"),
        (paired, {"networks": PIX2PIX | {"discriminator": partial(PATCH, layers=9)}}, "model"),
        (paired, {"batch_size": 17}, "trainer.batch_size"),
        (paired, {"l1_weight": -1}, "task.factory.l1_weight"),
        (paired, {"extractor": "vgg"}, "task.factory.extractor"),
        (unpaired, {"networks": PIX2PIX}, "model.networks"),
        (unpaired, {"networks": CYCLEGAN | {"b_to_a": Grey}}, "model"),
        (unpaired, {"batch_size": 0}, "trainer.batch_size"),
        (unpaired, {"cycle_weight": "much"}, "task.factory.cycle_weight"),
        (unpaired, {"identity_weight": float("nan")}, "task.factory.identity_weight"),
        (unpaired, {"pool": -1}, "task.factory.pool"),
    ],
)
def test_what_does_not_fit_is_refused(make, arguments, key):
    with pytest.raises(ConfigError) as caught:
        make(**arguments)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
