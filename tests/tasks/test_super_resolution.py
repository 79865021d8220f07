from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qp_runner.data import SuperResolutionData
from qp_runner.data.super_resolution import at_two_resolutions, patches
from qp_runner.errors import ConfigError
from qp_runner.models import ESPCN
from qp_runner.tasks import SuperResolutionTask
from qp_runner.tasks.super_resolution import psnr
from qp_runner.training import build_optimizers
from support import fit


def drawing(height, width, seed):
    """Soft-edged stripes in several directions: what a network can learn to sharpen."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
    image = torch.zeros(3, height, width)
    for channel in range(3):
        for _ in range(3):
            a, b, phase = torch.rand(3, generator=generator).tolist()
            image[channel] += torch.sigmoid(6 * torch.sin(0.5 * (a * rows + b * columns) + 6 * phase)) / 3
    return (image * 255).to(torch.uint8)


def make_data(scale=2):
    images = [at_two_resolutions(str(n), drawing(50 + n, 47, n), scale=scale) for n in range(4)]
    train = patches(images[:2], scale=scale, size=8, stride=3)
    return SuperResolutionData(train=train, val=tuple(images[2:3]), test=tuple(images[2:]), scale=scale)


DATA = make_data()


def make(build=ESPCN, **arguments):
    options = {"data": DATA, "networks": {"network": build}, "batch_size": 8, "seed": 0} | arguments
    return SuperResolutionTask(**options)


class Nearest(nn.Module):
    """Repeats each pixel."""

    def __init__(self, *, scale, made=None):
        super().__init__()
        self.scale, self.made = scale, made
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        large = F.interpolate(x, scale_factor=self.scale)
        return large if self.made is None else self.made(large)


def test_it_learns():
    task = make(last_lr_scale=1.0)
    untrained = task.evaluate("test")
    fit(task, partial(torch.optim.Adam, lr=3e-3), epochs=12)
    trained = task.evaluate("test")
    assert untrained["psnr"] < 10 < 18 < trained["psnr"]
    assert trained["ssim"] > untrained["ssim"]
    assert trained["bicubic_psnr"] == untrained["bicubic_psnr"]


def test_a_step_yields_the_mean_squared_error_once():
    task = make()
    batch = next(task.batches(0))
    assert batch.low.shape == (8, 1, 8, 8)
    assert batch.high.shape == (8, 1, 16, 16)
    ((name, loss),) = task.updates(batch)
    assert name == "network"
    assert torch.equal(loss, F.mse_loss(task.network(batch.low), batch.high))


def test_the_last_convolution_learns_at_its_own_rate():
    task = make(last_lr_scale=0.1)
    groups = build_optimizers(task.parameter_groups(), partial(torch.optim.Adam, lr=1e-3))["network"].param_groups
    assert [group["lr"] for group in groups] == [1e-3, pytest.approx(1e-4)]
    assert {id(p) for p in groups[1]["params"]} == {id(task.network.conv3.weight), id(task.network.conv3.bias)}
    together = [id(p) for group in groups for p in group["params"]]
    assert sorted(together) == sorted(id(p) for p in task.network.parameters())


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_agrees_with_the_obvious_way(split):
    task = make()
    fit(task, partial(torch.optim.Adam, lr=3e-3), epochs=1)
    measured = task.evaluate(split)
    values, bicubic = [], []
    for image in getattr(DATA, split):
        with torch.no_grad():
            made = task.network(image.low[None])[0, 0]
        error = 0.0
        height, width = made.shape
        for i in range(2, height - 2):
            for j in range(2, width - 2):
                error += (min(max(made[i, j].item(), 0), 1) - image.high[0, i, j].item()) ** 2
        values.append(10 * torch.log10(torch.tensor((height - 4) * (width - 4) / error)).item())
        red, green, blue = image.bicubic.double()[:, 2:-2, 2:-2]
        y = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
        bicubic.append(psnr(y / 255, image.high[0, 2:-2, 2:-2].double()).item())
    assert measured["psnr"] == pytest.approx(sum(values) / len(values), abs=1e-3)
    assert measured["bicubic_psnr"] == pytest.approx(sum(bicubic) / len(bicubic), abs=1e-3)


def test_psnr_of_a_known_error():
    """An error of 1 of 255 everywhere: 20 · log₁₀ 255 = 48.13 dB."""
    assert psnr(torch.full((4, 4), 0.5), torch.full((4, 4), 0.5 + 1 / 255)).item() == pytest.approx(48.13, abs=0.01)


def test_pictures_show_bicubic_output_and_original_side_by_side():
    task = make(Nearest)
    pictures = task.pictures()
    assert list(pictures) == [f"{image.name}__bicubic__output__original" for image in DATA.test]
    for image, picture in zip(DATA.test, pictures.values(), strict=True):
        height, width = image.rgb.shape[1:]
        assert picture.dtype == torch.uint8
        assert picture.shape == (3, height, 3 * width + 2 * 4)
        assert torch.equal(picture[:, :, :width], image.bicubic)
        assert torch.equal(picture[:, :, -width:], image.rgb)
        assert (picture[:, :, width : width + 4] == 255).all()


def test_pictures_of_large_images_show_where_interpolation_errs_most():
    rgb = torch.full((3, 300, 240), 90, dtype=torch.uint8)
    rgb[:, 152:296, 64:208] = torch.randint(256, (3, 144, 144), generator=torch.Generator().manual_seed(0)).byte()
    large = at_two_resolutions("large", rgb, scale=2)
    task = make(data=SuperResolutionData(train=DATA.train, val=DATA.val, test=(large,), scale=2))
    [picture] = task.pictures().values()
    assert picture.shape == (3, 144, 3 * 144 + 2 * 4)
    assert torch.equal(picture[:, :, -144:], rgb[:, 152:296, 64:208])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, r"trainer\.batch_size=0"),
        ({"batch_size": 10**6}, r"trainer\.batch_size=1000000: from 1 to the \d+ training samples"),
        ({"last_lr_scale": 0}, r"task\.factory\.last_lr_scale=0"),
        ({"networks": {"generator": ESPCN}}, r"model\.networks=.*generator"),
        ({"build": partial(Nearest, made=lambda x: x[..., 1:])}, r"model=Nearest: has to return \(1, 1, 16, 16\)"),
        ({"build": partial(Nearest, made=lambda x: [x])}, r"it returns list"),
        ({"build": partial(ESPCN, channels=3)}, r"model=ESPCN: does not fit images of 1×8×8"),
        ({"build": partial(ESPCN, depth=3)}, r"model\.networks\.network=ESPCN\(depth=3\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        make(**arguments)
