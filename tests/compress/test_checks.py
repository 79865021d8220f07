"""Networks that could only be compressed in part, or wrongly, are refused before training."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.errors import ConfigError


def attached(network, weight=("*",), activation=(), unpruned=()):
    return Compressor({"n": network}, sites=SiteSelection(weight, activation, unpruned), settings=Settings())


def test_a_weight_that_is_also_used_behind_its_modules_back_is_refused():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.kept = [self.layer.weight]

        def forward(self, x):
            return F.linear(self.layer(x), self.kept[0])

    network = Hidden()
    compressor = attached(network)
    with pytest.raises(ConfigError, match=r"layer.weight: is also used uncompressed, in n"):
        compressor.trace(lambda: network(torch.randn(1, 4)))


class Auxiliary(nn.Module):
    """A head that only training uses."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.relu = nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x):
        x = self.layer(x)
        return (x, self.relu(self.head(x))) if self.training else x


@pytest.mark.parametrize(
    ("weight", "activation", "named"), [(("*",), (), "head.weight"), (("layer*",), ("relu",), "relu")]
)
def test_sites_that_are_never_called_are_refused_at_the_trace(weight, activation, named):
    network = Auxiliary()
    compressor = attached(network, weight, activation)
    with pytest.raises(ConfigError, match=f"{named}: takes no part in the network's forward pass"):
        compressor.trace(lambda: network(torch.randn(1, 4)))


class TimeFirst(nn.Module):
    """[B, T, C] → activations [T, B, C]."""

    def __init__(self):
        super().__init__()
        self.layer, self.relu, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.relu(self.layer(x.transpose(0, 1)))).mean(0)


def test_a_batch_that_is_not_the_first_dimension_is_refused():
    network = TimeFirst()
    compressor = attached(network, activation=("relu",))
    with pytest.raises(ConfigError, match=r"relu: has the batch in dimension 1 of \[5, 2, 6\]"):
        compressor.trace(lambda: network(torch.randn(1, 5, 4)), pair=lambda: network(torch.randn(2, 5, 4)))


def test_samples_of_other_sizes_are_no_reason_to_refuse():
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1))
    compressor = attached(network, activation=("1",))
    compressor.trace(lambda: network(torch.randn(1, 1, 4, 4)), pair=lambda: network(torch.randn(2, 1, 8, 4)))
