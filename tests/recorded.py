"""Captured steps without a GPU: instead of a CUDA graph, a record of operations that is repeated on the same memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves

from qp_runner.training import GraphStep, SharedStep, Trainer
from qp_runner.training.compiled_step import CompiledStep
from qp_runner.training.executors import make_capturable
from qp_runner.training.step import EagerStep
from tiny import tiny, tiny_checkpoints

CPU = torch.device("cpu")
STATE = ("networks", "compressor", "optimizers", "task")
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
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the number that a tensor holds is not known while operations are captured")
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
    assert isinstance(trainer.step, EagerStep)
    eager = EagerStep(
        trainer.task,
        trainer.state.optimizers,
        precision=trainer.step.precision,
        device=CPU,
        bank=bank,
        options=trainer.step.options,
    )
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


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["figures"] == other["figures"]
    assert one["test"] == other["test"]
    for name in STATE:
        assert len(one[name]) == len(other[name])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one[name], other[name], strict=True)), name
