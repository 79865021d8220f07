"""Networks that work on parts of a sample, in batches of any size, including 0."""

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from qp_runner.compress import Compressor, Settings, SiteSelection, measure
from qp_runner.errors import ConfigError


class Regions(nn.Module):
    """A head on a number of regions that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 1), nn.ReLU()
        self.fc, self.fc_relu = nn.Linear(4, 6), nn.ReLU()

    def forward(self, x, found):
        maps = self.relu(self.conv(x))
        rows = torch.nonzero(torch.arange(9) < found).float() * 0
        boxes = torch.cat([rows, rows, rows, rows + 4, rows + 4], dim=1)  # of the whole first image
        return self.fc_relu(self.fc(roi_align(maps, boxes, 1).flatten(1)))


def attached(network):
    torch.manual_seed(0)
    sites = SiteSelection(("*",), ("relu", "fc_relu"))
    return Compressor({"n": network}, sites=sites, settings=Settings(granularity="channel"))


IMAGE = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.mark.parametrize("found", [0, 1, 9])
def test_a_trace_counts_one_region_for_any_number_found(found):
    network = Regions()
    compressor = attached(network)
    graph = compressor.trace(lambda: network(IMAGE, found))
    assert {site: size for tensor in graph.ledger for site, size in tensor.sites.items()} == {"relu": 64, "fc_relu": 6}
    assert graph.layer_outputs == 64 + 6
    assert measure(compressor).activation == (70 + 4) * 32 / 1e6  # a pooled region is no site
    assert compressor.state_dict()["_sites.activation/fc_relu.mask"].shape == (6,)


def test_calibration_copes_with_samples_in_which_nothing_is_found(stage):
    both, full = Regions(), Regions()
    full.load_state_dict(both.state_dict())
    sparse, dense = attached(both), attached(full)
    sparse.enter(stage(), run=lambda: [both(IMAGE, count) for count in (0, 5, 0)])
    dense.enter(stage(), run=lambda: full(IMAGE, 5))
    for key in ("mask", "scale"):
        name = f"_sites.activation/fc_relu.{key}"
        assert torch.equal(sparse.state_dict()[name], dense.state_dict()[name])
    assert both(IMAGE, 0).shape == (0, 6)


def test_a_head_that_never_has_anything_to_do_is_named(stage):
    network = Regions()
    compressor = attached(network)
    with pytest.raises(ConfigError, match="fc_relu: takes no part"):
        compressor.enter(stage(), run=lambda: network(IMAGE, 0))
