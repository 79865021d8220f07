"""A job that takes over the captured step of an earlier one is the job that it would be by itself.

CUDA graphs are replaced by a record of operations; `test_captured_options` and `test_executors` capture real ones.
"""

import importlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded import SGD, TASKS, captured, run, same
from torch import Tensor

from qp_runner.config import Config
from qp_runner.run.build import build, build_trainer
from qp_runner.run.context import RunContext, SweepContext
from qp_runner.run.shared_steps import LastStep, step_key
from qp_runner.training import GraphStep, SharedStep, seed_everything, set_numerics
from qp_runner.training.held_tensors import held_tensors
from qp_runner.training.shared_step import Captured
from support import Records
from tiny import tiny, tiny_config

runs: Any = importlib.import_module("qp_runner.run.run")  # the package has a function of that name


@pytest.mark.parametrize("task", TASKS)
def test_taking_over_a_step_changes_no_bit(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        ["schedule=p_q_wf"],
        ["schedule=q_p_wf", "seed=3"],
        ["schedule=q_w", "seed=4", "trainer.optimizer.lr=0.005"],
    ]
    shared = SharedStep()
    for number, job in enumerate(jobs):
        assert (shared._left is not None) == (number > 0)
        left = shared._left
        found = run(task, *job, shared=shared)
        assert left is None or shared._left is left  # it was taken and left again
        same(found, run(task, *job, shared=None))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("task", TASKS)
def test_taking_over_a_cuda_graph_changes_no_bit(task: str) -> None:
    def job(*overrides: str, shared: SharedStep | None) -> tuple[Records, list[Tensor]]:
        plain = tiny_config(task, *TASKS[task], *overrides)
        trainer = plain.trainer.model_copy(update={"executor": "graph", "device": "cuda"})
        config, records = plain.model_copy(update={"trainer": trainer}), Records()
        parts = build(config)
        seed_everything(config.seed)
        made = build_trainer(config, parts, recorder=records, shared_step=shared)
        made.run()
        assert isinstance(made.step, GraphStep)
        assert made.step.captured
        made.step.hand_on()
        networks = parts.task.networks().values()
        return records, [each.clone() for network in networks for each in network.state_dict().values()]

    set_numerics(deterministic=True, threads=None)
    shared = SharedStep()
    try:
        job("schedule=q_w", "seed=5", shared=shared)
        for overrides in (["schedule=p_q_wf"], ["schedule=q_p_wf", "seed=3"]):
            left = shared._left
            assert left is not None
            (records, weights), (expected, theirs) = (
                job(*overrides, shared=shared),
                job(*overrides, shared=None),
            )
            assert shared._left is left
            assert records.untimed() == expected.untimed()
            assert all(torch.equal(mine, other) for mine, other in zip(weights, theirs, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_resumed_job_takes_over_a_step(tmp_path: Path) -> None:
    shared = SharedStep()
    run("classification", "schedule=p_q_wf", "seed=3", shared=shared)
    whole = run("classification", "schedule=p_q_wf", shared=None, folder=tmp_path)
    left = shared._left
    again = run("classification", "schedule=p_q_wf", shared=shared, folder=tmp_path)
    assert again["resumed"] > 0
    assert shared._left is left
    same(whole | {"resumed": 0}, again | {"resumed": 0})


@pytest.mark.parametrize(
    "options",
    [
        ["trainer.grad_clip=0.1", "trainer.accumulate=2"],
        ["data.mixup=0.3", "data.factory.augment=true"],
        ["compress.granularity=channel", "compress.scale=float"],
        ["trainer.precision=bfloat16", "trainer.channels_last=true"],
    ],
    ids=str,
)
def test_a_step_with_options_is_taken_over(options: list[str]) -> None:
    shared, job = SharedStep(), ["schedule=q_p_wf", "seed=5", "trainer.ema=0.9", "trainer.warmup=1ep", *options]
    run("classification", "schedule=p_q_wf", *options, shared=shared)
    left = shared._left
    found = run("classification", *job, shared=shared)
    assert shared._left is left
    same(found, run("classification", *job, shared=None))


def test_a_job_that_fails_leaves_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedStep()
    run("classification", "seed=3", shared=shared)
    trainer, parts, _ = tiny("classification", *SGD)
    step = captured(trainer, shared)
    monkeypatch.setattr(parts.task, "evaluate", lambda split: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert step.captured
    assert shared._left is None
    same(run("classification", shared=shared), run("classification", shared=None))


def test_steps_of_other_shapes_are_not_taken() -> None:
    shared = SharedStep()
    run("classification", shared=shared)
    left = shared._left
    run("classification", "model.networks.network.width=7", shared=shared)
    assert shared._left is not left
    left = shared._left
    run("classification", "model.networks.network.width=7", "trainer.batch_size=64", shared=shared)
    assert shared._left is not left


def test_a_step_that_reads_what_its_job_does_not_hold_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = {torch.ones(1)}  # in a set, where it is not found
    shared = SharedStep()
    trainer, parts, _ = tiny("classification", *SGD)
    plain = parts.task.updates

    def updates(batch: Any) -> Iterator[tuple[str, Tensor]]:
        for name, loss in plain(batch):
            yield name, loss * next(iter(hidden)).squeeze()

    monkeypatch.setattr(parts.task, "updates", updates)
    step = captured(trainer, shared)
    trainer.run()
    assert step.captured
    step.hand_on()
    assert shared._left is None


def test_equal_objects_hold_tensors_at_equal_paths() -> None:
    one, other = (tiny("unpaired_translation", f"seed={seed}")[1] for seed in (0, 1))
    found = [held_tensors({"task": parts.task, "compressor": parts.compressor}) for parts in (one, other)]
    assert list(found[0]) == list(found[1])
    for parts, tensors in zip((one, other), found, strict=True):
        held = {id(each) for each in tensors.values()}
        networks = parts.task.networks().values()
        assert {id(each) for network in networks for each in (*network.parameters(), *network.buffers())} <= held
        assert {id(each) for each in parts.compressor.buffers()} <= held


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ("seed=5", True),
        ("schedule=q_p_w", True),
        ("trainer.epochs=9", True),
        ("trainer.optimizer.lr=0.5", True),
        ("trainer.optimizer.momentum=0.5", False),
        ("trainer.batch_size=32", False),
        ("trainer.grad_clip=1", False),
        ("trainer.precision=bfloat16", False),
        ("model.networks.network.width=7", False),
        ("model.sites.exclude=[fc*]", False),
        ("compress.granularity=channel", False),
        ("task.factory.label_smoothing=0.1", False),
        ("data.mixup=0.3", False),
    ],
)
def test_which_jobs_have_the_same_step(change: str, equal: bool) -> None:
    one, other = tiny_config("classification"), tiny_config("classification", change)
    assert (step_key(one) == step_key(other)) == equal
    last = LastStep()
    assert (last.of(one) is last.of(other)) == equal


def test_a_step_that_no_longer_fits_is_freed_before_the_next_job_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device may have no room for both."""
    last, config = LastStep(), tiny_config("classification", "trainer.batch_size=32", "tracking=none")
    monkeypatch.setattr(runs, "_LAST_STEP", last)
    shared = last.of(tiny_config("classification"))
    shared.leave(Captured(lambda: None, None, torch.zeros(()), {}, {}, {}))
    left = weakref.ref(shared._left)  # type: ignore[arg-type]
    del shared

    def build(_: Config) -> None:
        raise InterruptedError(left() is None)

    monkeypatch.setattr(runs, "build", build)
    sweep = SweepContext("sweep", tmp_path, 0, 1)
    with pytest.raises(InterruptedError, match="True"):
        runs.run(config, RunContext(tmp_path / "0", "float", sweep=sweep), composed=runs.Composed("", {}))
