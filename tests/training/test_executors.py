"""All executors run the same training; captured and compiled steps follow events without being made again."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from qp_runner.training import set_numerics
from qp_runner.training.executors import make_step, resolve_executor
from qp_runner.training.graph_step import GraphStep
from qp_runner.training.step import EagerStep
from qp_runner.training.undo import Undo
from support import P_Q, Run, make_trainer, train

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    set_numerics(deterministic=True, threads=None)
    yield
    torch.use_deterministic_algorithms(False)


def same_training(a: Run, b: Run, *, tolerance: float) -> None:
    assert a.compressor is not None
    assert b.compressor is not None
    for (name, mine), theirs in zip(a.compressor.state_dict().items(), b.compressor.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    losses = [[loss for _, loss in run.records.series("train/loss")] for run in (a, b)]
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)


def test_compiled_agrees_with_eager() -> None:
    eager, compiled = (train(P_Q, epochs=2, executor=kind, device=DEVICE) for kind in ("eager", "compile"))
    same_training(eager, compiled, tolerance=1e-3)


@cuda
def test_graph_agrees_with_eager_over_fifty_steps() -> None:
    eager, graph = (train(P_Q, epochs=8, executor=kind, device=DEVICE) for kind in ("eager", "graph"))
    assert isinstance(graph.trainer.step, GraphStep)
    assert graph.trainer.step.captured
    same_training(eager, graph, tolerance=1e-3)


@cuda
def test_graph_twice_gives_the_same_bits() -> None:
    first, second = (train(P_Q, epochs=4, executor="graph", device=DEVICE) for _ in range(2))
    same_training(first, second, tolerance=0)
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


@cuda
@pytest.mark.parametrize("kind", ["eager", "compile", "graph"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_never_waits_for_the_device(kind: str, precision: str) -> None:
    trainer, task, _ = make_trainer(P_Q, executor=kind, precision=precision, device=DEVICE)
    assert trainer.compressor is not None
    trainer._train_mode()
    batches = list(task.batches(0))
    for batch in batches[:2]:  # compiles, captures
        trainer.step(batch)
    last = trainer.stages[-1].first
    trainer._enter_due(last)
    trainer.step(batches[2])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[3:]:
            trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_steps_can_be_undone() -> None:
    trainer, task, _ = make_trainer({})
    trainer._train_mode()
    batches = list(task.batches(0))
    trainer.step(batches[0])
    before = Undo(task, trainer.state.optimizers)
    expected = {name: value.clone() for name, value in task.network.state_dict().items()}
    random = torch.rand(3)
    before.restore()
    trainer.step(batches[1])
    before.restore()
    assert all(torch.equal(value, expected[name]) for name, value in task.network.state_dict().items())
    assert torch.equal(torch.rand(3), random)
    again = [trainer.step(batch).item() for batch in batches[1:]]
    before.restore()
    assert [trainer.step(batch).item() for batch in batches[1:]] == again


def test_graph_needs_cuda() -> None:
    _, task, _ = make_trainer({})
    assert resolve_executor("auto", task, torch.device("cpu")) == "eager"
    with pytest.raises(ValueError, match="CUDA"):
        resolve_executor("graph", task, torch.device("cpu"))


@pytest.mark.parametrize("asked", ["auto", "compile", "graph"])
def test_tasks_of_changing_shapes_run_eagerly_and_say_so_where_something_else_was_asked_for(
    asked: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if asked == "graph" and DEVICE.type != "cuda":
        pytest.skip("needs a GPU")
    trainer, task, _ = make_trainer({}, device=DEVICE)
    monkeypatch.setattr(type(task), "fixed_shapes", False)
    with caplog.at_level(logging.WARNING):
        step = make_step(asked, task, trainer.state.optimizers, compressor=None, precision="float32", device=DEVICE)
    assert isinstance(step, EagerStep)
    assert [asked in record.message for record in caplog.records] == ([] if asked == "auto" else [True])


def test_recurrent_networks_run_eagerly_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    trainer, task, _ = make_trainer({}, device=DEVICE)
    task.network.add_module("memory", nn.GRU(3, 3))
    assert resolve_executor("auto", task, torch.device("cuda")) == "eager"
    step = make_step("compile", task, trainer.state.optimizers, compressor=None, precision="float32", device=DEVICE)
    assert isinstance(step, EagerStep)
    assert "trainer.executor=compile: torch does not compile recurrent layers" in caplog.text


def test_many_networks_in_one_process_are_all_compiled() -> None:
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for seed in range(3):
            trainer, task, _ = make_trainer({}, executor="compile", device=DEVICE, seed=seed)
            trainer.step(next(task.batches(0)))


def test_what_compiling_took_is_recorded_once() -> None:
    run = train({}, epochs=2, executor="compile", device=DEVICE)
    ((step, seconds),) = run.records.series("time/setup_s")
    assert step == run.task.steps_per_epoch
    assert seconds > 0
