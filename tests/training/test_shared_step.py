"""A job that takes over the captured step of an earlier one is the job that it would be by itself.

CUDA graphs are replaced by a record of operations that is repeated on the same memory; `test_captured_options` and
`test_executors` capture real ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves

from qp_runner.run.build import build, build_trainer
from qp_runner.run.shared_steps import LastStep, step_key
from qp_runner.training import GraphStep, SharedStep, Trainer, seed_everything, set_numerics
from qp_runner.training.compiled_step import CompiledStep
from qp_runner.training.executors import make_capturable
from qp_runner.training.held_tensors import held_tensors
from qp_runner.training.step import EagerStep
from support import Records
from tiny import tiny, tiny_checkpoints, tiny_config

CPU = torch.device("cpu")
SGD = ["trainer/optimizer=sgd", "trainer.optimizer.lr=0.01"]
ADAM = ["trainer/optimizer=adam"]
TASKS = {
    "classification": SGD,
    "super_resolution": ADAM,
    "paired_translation": ADAM,
    "unpaired_translation": ADAM,
}


class Record(TorchDispatchMode):
    """Notes operations, to repeat them on the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, tree_leaves(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.operations:
            for old, new in zip(results, tree_flatten(func(*args, **kwargs))[0], strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)


class RecordedGraphs:
    def warm_up(self, run: Callable[[], object]) -> None:
        run()

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with Record() as record:
            result = run()
        return record.replay, result


class Uncompiled(CompiledStep):
    """Operations inside a compiled network can't be recorded."""

    @contextmanager
    def compiled(self) -> Iterator[None]:
        with self.static():
            yield


def captured(trainer: Trainer, shared: SharedStep | None) -> GraphStep:
    """Makes a trainer run captured steps."""
    for optimizer in trainer.state.optimizers.values():
        make_capturable(optimizer, CPU)
    bank = trainer.compressor.bank() if trainer.compressor is not None else None
    eager = EagerStep(trainer.task, trainer.state.optimizers, precision="float32", device=CPU, bank=bank)
    trainer.step = step = GraphStep(
        Uncompiled(eager, compressor=trainer.compressor), shared=shared, graphs=RecordedGraphs()
    )
    return step


def run(task: str, *overrides: str, shared: SharedStep | None, folder: Path | None = None) -> dict[str, Any]:
    """All that a job leaves: its figures, weights, masks, scales and optimizer state."""
    trainer, parts, records = tiny(task, *TASKS[task], *overrides)
    if folder is not None:
        trainer.checkpoints = tiny_checkpoints(task, trainer, folder)
    step = captured(trainer, shared)
    trainer.run()
    assert step.captured
    state = trainer.state.capture()
    left = {name: [each.clone() for each in tree_leaves(state[name]) if isinstance(each, Tensor)] for name in STATE}
    step.hand_on()
    return left | {"figures": records.untimed(), "resumed": trainer.resumed_from, "test": parts.task.evaluate("test")}


STATE = ("networks", "compressor", "optimizers", "task")


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["figures"] == other["figures"]
    assert one["test"] == other["test"]
    for name in STATE:
        assert len(one[name]) == len(other[name])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one[name], other[name], strict=True)), name


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
