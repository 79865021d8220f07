"""What is refused when a run is built: networks of a user's own, through their configuration."""

import pytest
from torch import Tensor, nn

from qp_runner.config.compose import jobs
from qp_runner.errors import ConfigError
from qp_runner.run.build import Parts, build
from qp_runner.schedule import Target


class Own(nn.Module):
    """A network as a user may write it; `clips` writes to a weight in training."""

    def __init__(self, in_channels: int, classes: int, *, clips: bool = False, frozen: bool = False) -> None:
        super().__init__()
        self.clips = clips
        self.stem, self.norm = nn.Linear(64 * in_channels, 8), nn.BatchNorm1d(8)
        self.relu, self.head = nn.ReLU(), nn.Linear(8, classes)
        self.stem.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.clips:
            self.head.weight.data.clamp_(-1, 1)
        x = self.relu(self.norm(self.stem(x.flatten(1))))
        logits: Tensor = self.head(x)
        return logits


def built(*overrides: str) -> Parts:
    own = [f"model.networks.network._target_={__name__}.Own", "~model.networks.network.width"]
    sites = "model.sites={activation: [relu, head], unpruned: []}"
    [job], _ = jobs([*own, sites, "checkpoint.enabled=false", "trainer.epochs=3", *overrides], multirun=False)
    return build(job.config)


def weights(parts: Parts) -> list[str]:
    return [site.path for site in parts.compressor.sites(Target.WEIGHT)]


def test_batches_of_one_sample_are_refused_where_a_norm_needs_more() -> None:
    with pytest.raises(ConfigError, match=r"^model\.networks=norm: .*trainer\.batch_size to 2"):
        built("trainer.batch_size=1")
    built("trainer.batch_size=2")


def test_writes_to_a_weight_are_refused_if_the_schedule_compresses_weights() -> None:
    clips = "+model.networks.network.clips=true"
    with pytest.raises(ConfigError, match=r"^model\.sites\.weight=head\.weight: is written to"):
        built("schedule=q_w", clips)
    built("schedule=float", clips)


def test_frozen_weights_are_sites_only_if_asked_for() -> None:
    frozen = "+model.networks.network.frozen=true"
    parts = built("schedule=q_w", frozen)
    assert weights(parts) == ["head.weight"]
    assert [(each.path, each.reason) for each in parts.compressor.skipped] == [("stem.weight", "frozen")]
    parts = built("schedule=q_w", frozen, "model.sites.frozen=true")
    assert weights(parts) == ["stem.weight", "head.weight"]
    assert not parts.compressor.skipped
