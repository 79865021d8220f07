"""Detection as it is configured: experiments, and the published networks, cut small, from their own files."""

import gc
from pathlib import Path

import pytest
import torch

from qp_runner.config import Config
from qp_runner.config.compose import jobs
from qp_runner.models.resnet_backbone import ResNetBackbone
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.schedule import Target
from qp_runner.training import Trainer
from qp_runner.training.step import EagerStep
from support import Records

DETECTOR = "model.networks.detector"
SMALL = ["model=faster_rcnn_small", f"{DETECTOR}.anchor_sizes=[8,14]"]
TINY = [
    "task=detection",
    "compress.granularity=channel",
    "compress.calibration.samples=2",
    "data=shapes",
    "data.factory={_target_: qp_runner.data.shapes, train: 6, val: 1, test: 1, size: 32}",
    "trainer.batch_size=2",
    "trainer.epochs=2",
    "trainer.optimizer.lr=0.001",
    f"++{DETECTOR}.width=4",
    f"{DETECTOR}.proposals=8",
    f"{DETECTOR}.regions=4",
]


def one(*overrides: str) -> Config:
    [job], _ = jobs(overrides, multirun=False)
    return job.config


def trainer_of(config: Config) -> tuple[Trainer, Parts]:
    parts = build(config)
    return build_trainer(config, parts, recorder=Records()), parts


def test_the_published_recipe() -> None:
    planned, _ = jobs(["experiment=published/faster_rcnn"], multirun=False)
    trainer = planned[-1].config.trainer
    assert (trainer.epochs, trainer.batch_size, trainer.optimizer["lr"]) == (9, 1, 1e-3)
    assert trainer.lr_schedule is not None
    assert trainer.lr_schedule.factory["milestones"] == [5]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    path = tmp_path / "resnet.pt"
    torch.manual_seed(0)
    torch.save(ResNetBackbone(depth=50, norm="batch", width=4).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("model", ["faster_rcnn_r101", "faster_rcnn_r50_fpn_imagenet"])
def test_frozen_stages_are_neither_trained_nor_compressed(model: str, weights: str) -> None:
    cut = [f"{DETECTOR}.depth=50", f"{DETECTOR}.weights={weights}", f"+{DETECTOR}.small_stem=false"]
    if "fpn" in model:
        cut += [f"+{DETECTOR}.pyramid_channels=8", f"+{DETECTOR}.head_width=16"]
    trainer, parts = trainer_of(one(*TINY, f"model={model}", *cut, "schedule=q_p_wf"))
    network = parts.task.networks()["detector"]
    body = network.get_submodule("backbone.body")
    frozen = {
        n: v.clone() for n, v in body.state_dict().items() if n.startswith(("conv1", "bn1", "layer1", "layer2.0.bn"))
    }
    assert len(frozen) > 40
    trainer.run()
    assert all(torch.equal(value, body.state_dict()[name]) for name, value in frozen.items())
    paths = {site.path for target in Target for site in parts.compressor.sites(target)}
    assert not [
        path for path in paths if path.startswith(("backbone.body.conv1", "backbone.body.relu", "backbone.body.layer1"))
    ]
    for target in Target:
        assert parts.compressor.bits(target) == 8
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.05)


def test_a_footprint_counts_one_region_whatever_is_found() -> None:
    cut = ["model=faster_rcnn_r50_fpn", f"+{DETECTOR}.small_stem=true", f"+{DETECTOR}.head_width=16"]
    few, many = (build(one(*TINY, *cut, f"{DETECTOR}.proposals={proposals}")) for proposals in (8, 32))
    written = [[(t.name, t.elements) for t in parts.compressor.graph.ledger] for parts in (few, many)]
    head = [[each for each in found if each[0].startswith("roi_heads")] for found in written]
    assert head[0] == head[1]
    differing = {name for name, _ in {*written[0]} ^ {*written[1]}}
    assert differing <= {"rpn.getitem"}  # the boxes before suppression: as many as asked for, whatever is found
    elements = {site.path: site.elements for site in few.compressor.summary() if site.target == Target.ACTIVATION}
    assert elements["roi_heads.box_head.relu6"] == 16
    assert elements["roi_heads.box_predictor.bbox_pred"] == 4 * 5


def test_a_baked_detector_detects_the_same_without_the_compressor() -> None:
    """And steps leave nothing behind: as many tensors are alive after fifty as after twenty."""
    trainer, parts = trainer_of(one(*TINY, *SMALL, "schedule=pq_wf"))
    trainer.run()
    network, batch = parts.task.networks()["detector"].eval(), parts.task.sample()
    baked = parts.compressor.bake(network)
    [expected_boxes], [boxes] = network(batch.images), baked(batch.images)
    assert len(boxes["boxes"])
    assert all(torch.equal(boxes[key], expected_boxes[key]) for key in expected_boxes)
    network.train()
    alive = [_alive(trainer, parts, steps) for steps in (20, 30)]
    assert alive[0] == alive[1]


def _alive(trainer: Trainer, parts: Parts, steps: int) -> int:
    done = 0
    while done < steps:
        for batch in parts.task.batches(done):
            trainer.step(batch)
            done += 1
    gc.collect()
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def test_automatic_execution_is_eager_and_half_precision_trains() -> None:
    trainer, parts = trainer_of(one(*TINY, *SMALL, "trainer.precision=bfloat16"))
    assert isinstance(trainer.step, EagerStep)
    assert not parts.compressor.static
    assert 0 <= trainer.run()["map_50"] <= 100


def test_each_level_of_a_pyramid_has_masks_of_its_own() -> None:
    """The head on proposals is called once for each level; images of one size may then have masks by element."""
    trainer, parts = trainer_of(one(*TINY, *SMALL, "compress.granularity=element", "schedule=p_wf"))
    trainer.run()
    sites = {site.path: site for site in parts.compressor.sites(Target.ACTIVATION)}
    masks = [sites[f"rpn.head.conv.0.1{end}"].mask for end in ("", "_1")]
    assert masks[0].shape[1] == 2 * masks[1].shape[1]
    assert [round((mask == 0).float().mean().item(), 2) for mask in masks] == [0.5, 0.5]
