"""A small real run of every task, composed from its own configuration files."""

from qp_runner.cli.build import Parts, build, build_trainer
from qp_runner.cli.compose import jobs
from qp_runner.training import Trainer, seed_everything
from support import Records

TINY: dict[str, list[str]] = {
    "classification": ["experiment=orders/digits", "seed=0", "trainer.epochs=3", "trainer.batch_size=128"],
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


def tiny(task: str, *overrides: str) -> tuple[Trainer, Parts, Records]:
    """A trainer of a task's small run, ready to start; with the schedule `float` unless one is given."""
    given = [each for each in overrides if each.startswith("schedule=")] or ["schedule=float"]
    rest = [each for each in overrides if each not in given]
    [job], _ = jobs([*TINY[task], *given, *rest, "trainer.executor=eager", "trainer.device=cpu"], multirun=False)
    parts = build(job.config)
    seed_everything(job.config.seed)
    records = Records()
    return build_trainer(job.config, parts, recorder=records), parts, records
