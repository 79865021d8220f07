from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.models import ESPCN
from qp_runner.schedule import Target

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


@pytest.mark.parametrize(
    ("scale", "count"),  # 64·25 + 64, 32·64·9 + 32, scale²·32·9 + scale²
    [(2, 21_284), (3, 22_729), (4, 24_752)],
)
def test_parameter_counts(scale, count):
    assert sum(parameter.numel() for parameter in ESPCN(scale=scale).parameters()) == count


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_of_any_size_grow_by_the_scale(scale):
    assert ESPCN(scale=scale)(torch.zeros(2, 1, 7, 12)).shape == (2, 1, 7 * scale, 12 * scale)


def test_it_starts_as_said():
    torch.manual_seed(0)
    network = ESPCN(scale=3)
    assert network.conv1.weight.std().item() == pytest.approx((2 / (64 * 25)) ** 0.5, rel=0.1)
    assert network.conv2.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    assert network.conv3.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not any(conv.bias.any() for conv in (network.conv1, network.conv2, network.conv3))


def test_a_pixel_becomes_a_block_in_row_order():
    network = ESPCN(scale=2)
    nn.init.zeros_(network.conv3.weight)
    with torch.no_grad():
        network.conv3.bias.copy_(torch.arange(4.0))
    made = network(torch.zeros(1, 1, 2, 2))
    assert made[0, 0].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]] * 2


def test_what_the_configuration_compresses():
    sites = yaml.safe_load((CONF / "espcn.yaml").read_text())["sites"]
    network = ESPCN(scale=3)
    compressor = Compressor(
        {"network": network}, sites=SiteSelection(**{k: tuple(v) for k, v in sites.items()}), settings=Settings()
    )
    compressor.trace(lambda: network(torch.zeros(1, 1, 17, 17)))
    found = {record.path: (record.elements, record.prunable) for record in compressor.summary()}
    assert found == {
        "conv1.weight": (1_600, False),
        "conv2.weight": (18_432, True),
        "conv3.weight": (2_592, False),
        "tanh1": (64 * 17 * 17, False),
        "tanh2": (32 * 17 * 17, True),
        "shuffle": (51 * 51, False),
    }
    assert compressor.bits(Target.WEIGHT) == 32
