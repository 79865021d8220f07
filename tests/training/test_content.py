"""What a run starts from counts with its content, not with its name alone."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from qp_runner.config import Config
from qp_runner.config.compose import jobs
from qp_runner.run.build import build, build_task, compile_schedule
from qp_runner.run.identity import identity
from qp_runner.tasks import Task
from qp_runner.training import Content, content_of
from support import make_trainer
from tiny import TINY, tiny


def config(*overrides: str) -> Config:
    [job], _ = jobs([*overrides, "schedule=float"], multirun=False)
    return job.config


def root(given: Config, content: str | None = None) -> str:
    """Of a run that is planned, or of one with this content."""
    stages = compile_schedule(given, steps_per_epoch=3)
    parts = None if content is None else replace(build(given), content=Content(content))
    return identity(given, stages=stages, steps_per_epoch=3, parts=parts).root


@pytest.mark.parametrize("task", TINY)
def test_alike_runs_have_one_digest_and_other_weights_another(task: str) -> None:
    [job], _ = jobs([*TINY[task], "schedule=float"], multirun=False)
    first, second = build_task(job.config), build_task(job.config)
    known = content_of(first)
    assert known == content_of(second) == tiny(task)[1].content
    [parameter, *_] = next(iter(second.networks().values())).parameters()
    with torch.no_grad():
        parameter.view(-1)[0] += 1
    assert content_of(second).digest not in (known.digest, "")


@dataclass(frozen=True)
class Data:
    images: torch.Tensor
    file: Path
    name: str = "x"


def digest_of(data: object) -> str:
    _, task, _ = make_trainer(None, epochs=1)
    holder: Task = task
    holder.data = data  # type: ignore[attr-defined]
    return content_of(holder).digest


def test_a_changed_element_file_or_value_changes_it(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"one")
    data = Data(torch.zeros(2, 3, dtype=torch.bfloat16), file)
    known = digest_of({"train": (data, None, 1.5)})
    assert digest_of({"train": (replace(data, images=data.images.clone()), None, 1.5)}) == known
    changed = data.images.clone()
    changed[1, 2] = 1
    for other in (replace(data, images=changed), replace(data, images=data.images.view(3, 2)), replace(data, name="y")):
        assert digest_of({"train": (other, None, 1.5)}) != known
    os.utime(file, (1e9, 1e9))
    assert digest_of({"train": (data, None, 1.5)}) != known


def test_runs_of_other_content_share_nothing() -> None:
    given = config("experiment=orders/digits", "trainer.epochs=3", "seed=0")
    assert root(given, "a") == root(given, "a")
    assert root(given, "a") != root(given, "b")


@pytest.mark.parametrize(
    ("experiment", "change"),
    [
        ("paired_translation", "task.factory.extractor=inception"),
        ("paired_translation", "task.factory.l1_weight=10"),
        ("paired_translation", "trainer.evaluate_every=2"),
        ("unpaired_translation", "task.factory.pool=4"),
        ("super_resolution", "data.scale=2"),
        ("detection", "model.networks.detector.proposals=20"),
        ("detection", "data.factory.size=48"),
    ],
)
def test_what_a_task_is_configured_with_decides(experiment: str, change: str) -> None:
    base = [f"experiment=orders/{experiment}", "seed=0", "trainer.epochs=10"]
    assert root(config(*base)) != root(config(*base, change))
