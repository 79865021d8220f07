"""Resumed and branched runs equal uninterrupted ones bit for bit; files are complete or absent, checked and bounded."""

import errno
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpointing import FOUR_BITS, HUGE, DiedError, files, same, with_checkpoints
from qp_runner.locking import RUNNING, try_lock
from qp_runner.tasks import ClassificationTask
from qp_runner.training import (
    CheckpointStore,
    Identity,
    LearningRate,
    checkpoints,
    constant_then_linear,
    set_numerics,
)
from qp_runner.training.checkpoint_file import CheckpointError, decode, encode, write
from support import P_Q, make_trainer, train

LATER = {name: event | {"start": "0.8dur", "end": None, "steps": 1} for name, event in P_Q.items()}


def adam(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=3e-3, amsgrad=True)


SCHEDULES = {
    "none": None,
    "cosine": LearningRate(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 28), "step"),
    "steps": LearningRate(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 3], 0.1), "epoch"),
    "cycle": LearningRate(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=28, pct_start=0.1, cycle_momentum=False),
        "step",
    ),
    "linear": LearningRate(lambda o: constant_then_linear(o, constant=0.4, total=4), "epoch"),
    "lambda": LearningRate(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 0.9**n), "epoch"),
}


@pytest.mark.parametrize(
    ("rate", "optimizer"),
    [*((rate, {}) for rate in SCHEDULES), ("cosine", {"make_optimizer": adam})],
    ids=[*SCHEDULES, "cosine-adamw"],
)
def test_a_branched_run_is_the_run_made_alone(tmp_path: Path, rate: str, optimizer: dict[str, Any]) -> None:
    options = {"learning_rate": SCHEDULES[rate], **optimizer}
    first = with_checkpoints(tmp_path, P_Q, **options)
    assert first.trainer.resumed_from == 0
    same(first, train(P_Q, **options))
    branched = with_checkpoints(tmp_path, FOUR_BITS, **options)
    assert branched.trainer.resumed_from == 22  # the shared prunings included, the quantization not
    same(branched, train(FOUR_BITS, **options))
    later = with_checkpoints(tmp_path, LATER, **options)
    assert later.trainer.resumed_from == 11  # before the first pruning of the other
    same(later, train(LATER, **options))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("executor", ["eager", "compile", "graph"])
@pytest.mark.parametrize("optimizer", [{}, {"make_optimizer": adam}], ids=["sgd", "adamw"])
def test_on_a_gpu_too_a_branched_run_is_the_run_made_alone(
    tmp_path: Path, executor: str, optimizer: dict[str, Any]
) -> None:
    options = {
        "device": torch.device("cuda"), "executor": executor, "learning_rate": SCHEDULES["cosine"], **optimizer,
    }  # fmt: skip
    set_numerics(deterministic=True, threads=None)
    with_checkpoints(tmp_path, P_Q, **options)
    branched = with_checkpoints(tmp_path, FOUR_BITS, **options)
    assert branched.trainer.resumed_from == 22
    same(branched, train(FOUR_BITS, **options))


@pytest.mark.parametrize("dies_at", [1, 7, 11, 27])
def test_a_run_that_died_goes_on_to_the_same_bits(tmp_path: Path, dies_at: int) -> None:
    with pytest.raises(DiedError):
        with_checkpoints(tmp_path, P_Q, every=3, dies_at=dies_at)
    resumed = with_checkpoints(tmp_path, P_Q, every=3)
    assert dies_at - 3 <= resumed.trainer.resumed_from <= dies_at
    same(resumed, train(P_Q))


def test_a_finished_run_made_again_starts_at_its_last_event(tmp_path: Path) -> None:
    with_checkpoints(tmp_path, P_Q, every=1)
    assert [int(path.name[:9]) for path in files(tmp_path)] == [11, 14, 17, 22]  # what was for resumption is gone
    again = with_checkpoints(tmp_path, P_Q)
    assert again.trainer.resumed_from == 22
    same(again, train(P_Q))


def test_compression_after_training_starts_from_the_whole_float_run(tmp_path: Path) -> None:
    after = {"quantize_weight": {"op": "quantize", "target": "weight", "to": 2, "start": "1dur"}}
    same(with_checkpoints(tmp_path, {}, checkpoint_steps=frozenset({28})), train({}))
    quantized = with_checkpoints(tmp_path, after)
    assert quantized.trainer.resumed_from == 28
    same(quantized, train(after))


def test_what_others_need_is_kept_and_seeds_are_kept_apart(tmp_path: Path) -> None:
    with_checkpoints(tmp_path, {}, checkpoint_steps=frozenset({5}))
    assert with_checkpoints(tmp_path, P_Q).trainer.resumed_from == 5
    assert with_checkpoints(tmp_path, P_Q, seed=1).trainer.resumed_from == 0


@pytest.mark.parametrize("dated", [1e9, 4e9])  # whatever a clock made of the files' times
def test_what_was_there_is_made_again_where_asked_for_and_of_use_then(tmp_path: Path, dated: float) -> None:
    with_checkpoints(tmp_path, P_Q)
    for each in files(tmp_path):
        os.utime(each, (dated, dated))
    before = CheckpointStore(tmp_path, HUGE).marks()
    assert with_checkpoints(tmp_path, P_Q, ignored=before).trainer.resumed_from == 0
    for each in files(tmp_path):
        os.utime(each, (1e9, 1e9))
    assert with_checkpoints(tmp_path, LATER, ignored=before).trainer.resumed_from == 11


def test_generators_are_part_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ClassificationTask.updates

    def noisy(self: ClassificationTask, batch: Any) -> Any:
        for name, loss in plain(self, batch):
            yield name, loss * (1 + torch.rand(()) * random.random() * np.random.rand())  # noqa: NPY002

    monkeypatch.setattr(ClassificationTask, "updates", noisy)
    with pytest.raises(DiedError):
        with_checkpoints(tmp_path, {}, every=4, dies_at=9)
    resumed = with_checkpoints(tmp_path, {}, every=4)
    assert resumed.trainer.resumed_from == 8
    same(resumed, train({}))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "one flipped bit": lambda data: flipped(data, len(data) // 2),
    "one flipped bit of the checksum": lambda data: flipped(data, 30),
    "cut off": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "another program's": lambda data: b"PK" + data,
    "code": lambda data: encode({"x": 1}).replace(b"x", b"y"),
    "another run's": lambda data: encode(decode(data) | {"prefix": "0" * 64}),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named_passed_over_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with_checkpoints(tmp_path, P_Q)
    deepest = files(tmp_path)[-1]
    whole = deepest.read_bytes()
    deepest.write_bytes(DAMAGE[how](whole))
    again = with_checkpoints(tmp_path, P_Q)
    assert str(deepest) in caplog.text
    assert again.trainer.resumed_from == 17
    same(again, train(P_Q))
    assert decode(deepest.read_bytes())["step"] == 22


def _shorter(values: torch.Tensor) -> torch.Tensor:
    return values.flatten()[:-1]


FOREIGN: dict[str, Callable[[dict[str, Any]], object]] = {
    "lacks generators": lambda state: state.pop("generators"),
    "lacks conv1.weight": lambda state: state["networks"]["network"].pop("conv1.weight"),
    "lacks last_epoch": lambda state: state["learning_rates"]["schedules"][0].pop("last_epoch"),
    "lacks lr": lambda state: state["optimizers"]["network"]["param_groups"][0].pop("lr"),
    "fc.weight is no tensor of shape": lambda state: state["networks"]["network"].update(
        {"fc.weight": _shorter(state["networks"]["network"]["fc.weight"])}
    ),
    "compressor.": lambda state: state["compressor"].update({key: torch.zeros(9) for key in state["compressor"]}),
    "state.0.momentum_buffer does not suit": lambda state: state["optimizers"]["network"]["state"][0].update(
        {"momentum_buffer": torch.zeros(3, 2, 7)}
    ),
}


@pytest.mark.parametrize("reason", FOREIGN)
def test_a_state_of_another_form_is_named_passed_over_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    cosine = {"learning_rate": SCHEDULES["cosine"]}
    with_checkpoints(tmp_path, P_Q, **cosine)
    deepest = files(tmp_path)[-1]
    state = decode(deepest.read_bytes())
    FOREIGN[reason](state)
    deepest.write_bytes(encode(state))
    again = with_checkpoints(tmp_path, P_Q, **cosine)
    assert again.trainer.resumed_from == 17
    [said] = caplog.messages
    assert str(deepest) in said
    assert reason in said
    same(again, train(P_Q, **cosine))
    assert with_checkpoints(tmp_path, P_Q, **cosine).trainer.resumed_from == 22


class Payload:
    def __reduce__(self) -> Any:
        return os.getenv, ("HOME",)


def test_a_checkpoint_cannot_run_code() -> None:
    with pytest.raises(CheckpointError, match="refuses"):
        decode(encode({"x": Payload()}))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_costs_the_checkpoint_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints, "write", full)
    same(with_checkpoints(tmp_path, P_Q), train(P_Q))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert os.strerror(number) in warnings[0].getMessage()


def test_a_limit_of_the_system_costs_the_checkpoint_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    alone = train(P_Q)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        run = with_checkpoints(tmp_path, P_Q)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    same(run, alone)
    assert os.strerror(errno.EFBIG) in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []


def test_the_limit_evicts_what_was_of_use_longest_ago(tmp_path: Path) -> None:
    with_checkpoints(tmp_path, P_Q)
    stored = files(tmp_path)
    size = max(path.stat().st_size for path in stored)
    for age, path in enumerate(stored):  # the first is the latest of use
        os.utime(path, (2e9 - age, path.stat().st_mtime))
    with_checkpoints(tmp_path, {}, checkpoint_steps=frozenset({27}), limit=4 * size + 100, seed=1)
    left = files(tmp_path)
    assert len(left) == 4
    assert stored[-1] not in left
    assert stored[0] in left


def test_a_state_above_the_limit_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    same(with_checkpoints(tmp_path, P_Q, limit=100), train(P_Q))
    assert files(tmp_path) == []
    assert "checkpoint.limit_gb" in caplog.text


def test_a_running_sweeps_files_go_last(tmp_path: Path) -> None:
    trainer, _, _ = make_trainer({})
    identity = Identity({}, trainer.stages, {})
    needed = CheckpointStore(tmp_path / "old" / "store", 10**6, sweep=tmp_path / "old" / "sweep")
    needed.save(identity, 1, {"x": torch.zeros(1000)})
    (tmp_path / "old").rename(tmp_path / "moved")
    sweep = tmp_path / "moved" / "sweep"
    plain = CheckpointStore(tmp_path / "moved" / "store", 15000)
    plain.save(identity, 2, {"x": torch.zeros(1000)})
    lock = try_lock(sweep / RUNNING)
    assert lock is not None
    plain.save(identity, 3, {"x": torch.zeros(1000)})
    assert plain.steps(identity) == [3, 1]
    lock.release()
    plain.save(identity, 4, {"x": torch.zeros(1000)})
    assert plain.steps(identity) == [4, 3]


def test_a_history_is_restored_exactly() -> None:
    one, other = make_trainer({})[0], make_trainer({})[0]
    one.state.history = [(0, {"a": 0.1 + 0.2, "b": float("inf")}), (7, {"a": float("nan")})]
    other.state.restore(decode(encode(one.state.capture())))
    assert repr(other.state.history) == repr(one.state.history)
