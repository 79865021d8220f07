"""A small run of every task, composed from its configuration files."""

from pathlib import Path

from qp_runner.config import Config
from qp_runner.config.compose import jobs
from qp_runner.run.build import Parts, build, build_trainer
from qp_runner.training import CheckpointStore, Identity, RunCheckpoints, Trainer, seed_everything
from support import Records

TINY: dict[str, list[str]] = {
    "classification": ["experiment=orders/digits", "seed=0", "trainer.epochs=3", "trainer.batch_size=128"],
    "super_resolution": [
        "experiment=orders/super_resolution",
        "data.stride=60",
        "seed=0",
        "trainer.epochs=4",
        "trainer.batch_size=8",
        "trainer.lr_schedule.factory.milestones=[3]",
        "compress.calibration.samples=32",
    ],
    "paired_translation": [
        "experiment=orders/paired_translation",
        "seed=0",
        *("data.size=32", "data.factory.train=12", "data.factory.val=4", "data.factory.test=4"),
        *("model.networks.generator.width=4", "model.networks.generator.depth=4"),
        *("model.networks.discriminator.width=4", "trainer.epochs=5", "compress.calibration.samples=8"),
    ],
    "unpaired_translation": [
        "experiment=orders/unpaired_translation",
        "seed=0",
        *("data.size=24", "data.factory.train=6", "data.factory.val=4", "data.factory.test=4"),
        *("model.networks.a_to_b.width=4", "model.networks.b_to_a.width=4", "model.networks.b_to_a.blocks=1"),
        *("model.networks.discriminator_a.width=4", "model.networks.discriminator_b.width=4"),
        *("trainer.epochs=5", "task.factory.pool=4", "compress.calibration.samples=8"),
    ],
    "detection": [
        "experiment=orders/detection",
        "seed=0",
        "data.factory.train=24",
        "data.factory.val=2",
        "data.factory.test=2",
        "data.factory.size=32",
        "model.networks.detector.width=8",
        "model.networks.detector.pyramid_channels=8",
        "model.networks.detector.head_width=16",
        "model.networks.detector.anchor_sizes=[8,14]",
        "model.networks.detector.proposals=16",
        "model.networks.detector.regions=8",
        "model.networks.detector.pooled=3",
        "trainer.epochs=3",
        "trainer.batch_size=3",
        "compress.calibration.samples=8",
    ],
}
"""Overrides by task: an experiment on embedded data, cut to a few seconds."""


def tiny_config(task: str, *overrides: str) -> Config:
    """The configuration of a task's small run; with the schedule `float` unless one is given."""
    given = [each for each in overrides if each.startswith("schedule=")] or ["schedule=float"]
    rest = [each for each in overrides if each not in given]
    [job], _ = jobs([*TINY[task], *given, *rest, "trainer.executor=eager", "trainer.device=cpu"], multirun=False)
    return job.config


def tiny(task: str, *overrides: str) -> tuple[Trainer, Parts, Records]:
    """A trainer of a task's small run, ready to start."""
    config = tiny_config(task, *overrides)
    parts = build(config)
    seed_everything(config.seed)
    records = Records()
    return build_trainer(config, parts, recorder=records), parts, records


def tiny_checkpoints(task: str, trainer: Trainer, folder: Path) -> RunCheckpoints:
    """Checkpoints of a small run below a folder, one of them after a third of training."""
    identity = Identity({"task": task, "seed": 0}, trainer.stages, {})
    steps = frozenset({trainer.total_steps // 3})
    return RunCheckpoints(CheckpointStore(folder, 10**10), identity, every=3, checkpoint_steps=steps)
