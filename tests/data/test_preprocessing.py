import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

from qp_runner.data import ImagePreprocessing, digits


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


COLOUR = ImagePreprocessing(3, (24, 24), (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), spare=4)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (24, 24), (28, 28), (30, 200), (10, 12)])
def test_a_picture_is_scaled_and_cut_as_torchvision_does(width: int, height: int) -> None:
    image = picture(width, height)
    theirs = transforms.Compose(
        [
            transforms.Resize(28),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize(COLOUR.mean, COLOUR.std),
        ]
    )
    assert torch.allclose(COLOUR(image)[0], theirs(image), atol=1e-6)


def test_pixels_of_the_right_size_are_a_sample_already() -> None:
    pixels = pil_to_tensor(picture(24, 24))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (COLOUR.mean, COLOUR.std))
    assert torch.equal(COLOUR(pixels)[0], (pixels.float() / 255 - mean) / std)


def test_it_computes_what_the_set_computes() -> None:
    data = digits()
    assert torch.equal(data.preprocessing()(data.test.images), data.normalise(data.test).images)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_are_converted(mode: str) -> None:
    assert COLOUR(picture(40, 40, mode)).shape == (1, 3, 24, 24)
    assert torch.equal(COLOUR(picture(40, 40, mode)), COLOUR(picture(40, 40, mode).convert("RGB")))


def test_tensors_of_other_channels_are_converted() -> None:
    grey = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert COLOUR(grey).shape == COLOUR([grey.expand(3, -1, -1)]).shape == (1, 3, 24, 24)
    assert digits().preprocessing()(grey.expand(3, -1, -1)).shape == (1, 1, 8, 8)


def test_it_goes_through_json() -> None:
    assert ImagePreprocessing.from_record(json.loads(json.dumps(COLOUR.record()))) == COLOUR
