import pytest
import torch

from qp_runner.data.luminance import luminance, with_luminance


def colour(red, green, blue):
    return torch.tensor([red, green, blue], dtype=torch.uint8).view(3, 1, 1)


@pytest.mark.parametrize(
    ("rgb", "y"),  # ITU-R BT.601, 8 bits, studio range
    [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81.481), ((0, 255, 0), 144.553), ((0, 0, 255), 40.966)],
)
def test_luminance_is_the_standards(rgb, y):
    assert luminance(colour(*rgb)).item() * 255 == pytest.approx(y, abs=1e-3)


def test_grey_stays_in_order():
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert (luminance(grey).diff() > 0).all()


def test_ones_own_luminance_changes_nothing():
    rgb = torch.randint(256, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_luminance(rgb, luminance(rgb)), rgb)


def test_another_luminance_is_taken_and_chroma_kept():
    rgb = torch.randint(80, 170, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = luminance(rgb) + 0.1
    made = with_luminance(rgb, wanted)
    assert (luminance(made) - wanted).abs().max() < 0.6 / 255
    change = made.int() - rgb.int()
    assert torch.equal(change[0], change[1])
    assert torch.equal(change[0], change[2])
