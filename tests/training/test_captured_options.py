"""Captured and compiled steps train as eager ones do, whatever is added to training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from qp_runner.models import SmallCNN
from qp_runner.run.build import build, build_trainer
from qp_runner.training import seed_everything, set_numerics
from qp_runner.training.graph_step import GraphStep
from support import Records
from tiny import TINY, tiny_config

OPTIONS = {
    "clipped": ["trainer.grad_clip=0.1", "trainer.warmup=2ep", "trainer.ema=0.9"],
    "parts": ["trainer.accumulate=4", "data.mixup=0.3", "data.cutmix=1"],
    "taught": ["trainer.teacher=teacher.pt", "trainer/optimizer=adamw"],
    "supervised": ["task=supervised", "task.factory.class_weights=balanced", "trainer.accumulate=2", "trainer.ema=0.9"],
}
KINDS = [
    pytest.param("compile", marks=pytest.mark.slow),
    pytest.param("graph", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    set_numerics(deterministic=True, threads=None)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_executors_agree(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(SmallCNN(width=6, in_channels=1, classes=10).state_dict(), "teacher.pt")
    assert "trainer.epochs=3" in TINY["classification"]
    found = {}
    for executor in ("eager", kind):
        config = tiny_config("classification", "schedule=p_q_wf", *OPTIONS[name])
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = config.model_copy(
            update={"trainer": config.trainer.model_copy(update={"executor": executor, "device": device})}
        )
        parts, records = build(config), Records()
        seed_everything(0)
        trainer = build_trainer(config, parts, recorder=records)
        trainer.run()
        assert isinstance(trainer.step, GraphStep) == (executor == "graph")
        if isinstance(trainer.step, GraphStep):
            assert trainer.step.captured
        found[executor] = [value for _, value in records.series("train/loss")], records.series("train/lr")
    assert found[kind][0] == pytest.approx(found["eager"][0], rel=2e-3)
    assert [rate for _, rate in found[kind][1]] == pytest.approx([rate for _, rate in found["eager"][1]], rel=1e-5)
