import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qp_runner.data import photographs, super_resolution_folders
from qp_runner.data.luminance import luminance
from qp_runner.data.photographs import TEST, TRAIN, VAL
from qp_runner.data.super_resolution import at_two_resolutions, patches
from qp_runner.errors import ConfigError
from qp_runner.tasks.super_resolution import psnr

ROOT = Path(os.environ.get("QP_SUPER_RESOLUTION", "data"))  # holds Set5


def noise(height, width, seed=0):
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def folders(tmp_path):
    """Twelve training images and two for test, of several sizes."""
    for number in range(12):
        save(tmp_path / "train" / f"{number:02d}.png", noise(40 + number, 60 - number, seed=number))
    for number in range(2):
        save(tmp_path / "eval" / f"{number}.png", noise(50, 41 + number, seed=50 + number))
    return tmp_path


def load(folder, **options):
    options = {"train": str(folder / "train"), "evaluation": str(folder / "eval"), "scale": 2, "patch": 8} | options
    return super_resolution_folders(**options)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_image_is_cropped_to_a_multiple_of_the_scale(scale):
    rgb = noise(29, 38)
    image = at_two_resolutions("x", rgb, scale=scale)
    height, width = 29 // scale * scale, 38 // scale * scale
    assert image.high.shape == (1, height, width)
    assert image.low.shape == (1, height // scale, width // scale)
    assert image.bicubic.shape == image.rgb.shape == (3, height, width)
    assert torch.equal(image.rgb, rgb[:, :height, :width])
    assert torch.equal(image.high, luminance(image.rgb))


def test_a_plain_image_stays_plain_at_low_resolution():
    image = at_two_resolutions("x", torch.full((3, 30, 30), 77, dtype=torch.uint8), scale=3)
    assert torch.equal(image.low, image.high[:, ::3, ::3])
    assert torch.equal(image.bicubic, image.rgb)


def test_down_sampling_is_antialiased():
    """A checkerboard finer than the low resolution becomes grey; without antialiasing it would stay black and white."""
    board = (torch.arange(48).view(-1, 1) + torch.arange(48)) % 2 * 255
    low = at_two_resolutions("x", board.expand(3, 48, 48).to(torch.uint8), scale=4).low[:, 2:-2, 2:-2]
    assert (low - 125.5 / 255).abs().max() < 0.03


def test_patches_of_both_resolutions_are_the_same_places():
    image = at_two_resolutions("x", noise(60, 75), scale=3)
    found = patches([image], scale=3, size=8, stride=5)
    places = [(i, j) for i in range(0, 20 - 8 + 1, 5) for j in range(0, 25 - 8 + 1, 5)]
    assert len(found.low) == len(found.high) == len(places) == 12
    for (i, j), low, high in zip(places, found.low, found.high, strict=True):
        assert torch.equal(low, image.low[:, i : i + 8, j : j + 8])
        assert torch.equal(high, image.high[:, 3 * i : 3 * i + 24, 3 * j : 3 * j + 24])


def test_every_tenth_training_image_is_held_out_unless_there_are_validation_images(folders):
    data = load(folders, stride=8)
    assert [image.name for image in data.val] == ["09"]
    assert [image.name for image in data.test] == ["0", "1"]
    counts = [((40 + n) // 2 // 8) * ((60 - n) // 2 // 8) for n in range(12)]
    assert len(data.train.low) == sum(counts) - counts[9]
    whole = load(folders, val=str(folders / "eval"), stride=8)
    assert len(whole.val) == 2
    assert len(whole.train.low) == sum(counts)


def test_grey_images_are_taken_as_colour(folders):
    grey = noise(50, 50)[0]
    Image.fromarray(grey.numpy()).save(folders / "eval" / "grey.png")
    image = load(folders).test[-1]
    assert image.name == "grey"
    assert torch.equal(image.rgb, grey.expand(3, 50, 50))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": "nowhere"}, r"data\.train=nowhere: no such folder .*T91 and Set5"),
        ({"evaluation": "nowhere"}, r"data\.eval=nowhere: no such folder"),
        ({"evaluation": "."}, r"data\.eval=\.: no images"),
        ({"evaluation": "bad"}, r"data\.eval=bad/broken\.png: not a readable image"),
        ({"val": "nowhere"}, r"data\.val=nowhere: no such folder"),
        ({"train": "one"}, r"data\.train=one: needs two images.*data\.val"),
        ({"scale": 5}, r"data\.scale=5: one of 2, 3, 4"),
        ({"stride": 0}, r"data\.stride=0: at least 1"),
        ({"patch": 4}, r"data\.patch=4: at least 8"),
        ({"patch": 17, "scale": 3}, r"data\.train=.*00\.png: an image of 60×40 pixels is too small: .* 51×51"),
    ],
)
def test_bad_input_is_named(folders, options, said):
    save(folders / "one" / "a.png", noise(50, 50))
    (folders / "bad").mkdir()
    (folders / "bad" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=said):
        load(folders, **options)
    assert len(load(folders, train="one", val="eval").val) == 2


def test_the_photographs_are_split_by_motif():
    assert not {*TRAIN} & {*VAL} | {*TRAIN} & {*TEST} | {*VAL} & {*TEST}
    data = photographs(stride=40)
    assert [image.name for image in (*data.val, *data.test)] == [*VAL, *TEST]
    assert data.train.low.shape[1:] == (1, 17, 17)
    assert data.train.high.shape[1:] == (1, 51, 51)
    pixels = np.asarray(data.test[1].rgb)
    assert pixels.std() > 20


@pytest.mark.skipif(not (ROOT / "Set5").is_dir(), reason="QP_SUPER_RESOLUTION names no folder that holds Set5")
def test_bicubic_interpolation_has_the_literatures_psnr_on_set5():
    """×3: 30.39 dB (Dong et al. 2014, Shi et al. 2016)."""
    folder = str(ROOT / "Set5")
    data = super_resolution_folders(train=folder, evaluation=folder, scale=3)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    values = [psnr(luminance(image.bicubic)[inner], image.high[inner]).item() for image in data.test]
    assert len(values) == 5
    assert sum(values) / 5 == pytest.approx(30.39, abs=0.1)
