"""Runs that store their state and go on from it."""

from pathlib import Path
from typing import Any

import torch

from qp_runner.training import CheckpointStore, Identity, RunCheckpoints, Trainer
from support import P_Q, Run, make_trainer

FOUR_BITS = P_Q | {"quantize_weight": P_Q["quantize_weight"] | {"to": 4}}
HUGE = 10**9


class DiedError(Exception):
    """Raised in place of a training step, as if the process had died there."""


def with_checkpoints(
    folder: Path, events: dict[str, Any], *, every: int | None = None, limit: int = HUGE, dies_at: int | None = None,
    checkpoint_steps: frozenset[int] = frozenset(), ignored: frozenset[str] = frozenset(), **options: Any,
) -> Run:  # fmt: skip
    """A run that loads and saves checkpoints; `dies_at` ends it before that step."""
    trainer, task, records = make_trainer(events, **options)
    identity = Identity({"seed": options.get("seed", 0)}, trainer.stages, {"scale": "power_of_two"})
    store = CheckpointStore(folder, limit, ignored=ignored)
    trainer.checkpoints = RunCheckpoints(store, identity, every=every, checkpoint_steps=checkpoint_steps)
    if dies_at is not None:
        dying(trainer, dies_at)
    trainer.run()
    return Run(trainer, task, records)


def dying(trainer: Trainer, at: int) -> None:
    step = trainer.step

    def dies(batch: Any) -> torch.Tensor:
        if trainer.state.steps_done >= at:
            raise DiedError
        return step(batch)

    dies.setup_seconds = 0.0  # type: ignore[attr-defined]
    trainer.step = dies


def same(a: Run, b: Run) -> None:
    """Weights, masks, scales, optimizers and records, times excepted."""
    assert a.weights.keys() == b.weights.keys()
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert a.compressor is not None
    assert b.compressor is not None
    states = (a.compressor.state_dict(), b.compressor.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert a.records.untimed() == b.records.untimed()


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.ckpt"))
