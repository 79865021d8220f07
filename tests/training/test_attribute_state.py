"""What a network or task changes outside its state_dict is part of a run's state."""

import itertools
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import support
from checkpointing import FOUR_BITS, DiedError, files, same, with_checkpoints
from qp_runner.compress.python_state import differences, structure
from qp_runner.models import SmallCNN
from qp_runner.tasks import ClassificationTask
from qp_runner.training.attribute_state import caches, state_roots
from qp_runner.training.compiled_step import CompiledStep
from qp_runner.training.graph_step import GraphStep
from qp_runner.training.undo import Undo
from support import P_Q, make_trainer, train
from tiny import TINY, tiny

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Kept(SmallCNN):
    """Multiplies its input by a number that depends on what it kept of earlier calls."""

    seen: Tensor
    hidden: Tensor

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.register_buffer("late", None)
        self.steps: list[float] = []
        self.sums: dict[str, Tensor] = {"a": torch.zeros(())}
        self.plain = torch.zeros(())
        self.array = np.zeros(2)
        self.torchs, self.numpys, self.pythons = torch.Generator(), np.random.default_rng(0), random.Random(0)
        self.meter = Meter()
        self.other = self.sums  # one object under two names
        self.opaque = itertools.count() if self.kept is opaque else None

    def forward(self, x: Tensor) -> Tensor:
        factor = type(self).kept(self, x.detach())
        return super().forward(x * (1 + 0.01 * factor))

    kept: Callable[["Kept", Tensor], Any] = staticmethod(lambda network, x: 0)


class Meter:
    made = 0

    def __init__(self) -> None:
        self.count = 0


def counter(network: Kept, x: Tensor) -> Any:
    network.calls += 1
    return network.calls


def counter_in_training(network: Kept, x: Tensor) -> Any:
    network.calls += network.training
    return network.calls


def buffer_not_persistent(network: Kept, x: Tensor) -> Any:
    network.hidden += 0.1
    return network.hidden


def buffer_reassigned(network: Kept, x: Tensor) -> Any:
    network.hidden = network.hidden + 0.1
    network.seen = network.seen + 0.1
    return network.hidden + network.seen


def buffer_of_growing_size(network: Kept, x: Tensor) -> Any:
    network.seen = torch.cat([network.seen, x.mean().view(1)])
    return len(network.seen)


def buffer_that_comes_late(network: Kept, x: Tensor) -> Any:
    network.late = torch.ones(3) if network.late is None else network.late + 0.1
    if not hasattr(network, "later"):
        network.register_buffer("later", torch.zeros(2), persistent=False)
    network.later += 0.1
    return network.late.sum() + network.later.sum()


def attribute_that_appears(network: Kept, x: Tensor) -> Any:
    network.appeared = getattr(network, "appeared", 0) + 1
    return network.appeared


def attribute_that_goes(network: Kept, x: Tensor) -> Any:
    if hasattr(network, "array"):
        del network.array
        return 1
    return 5


def tensor(network: Kept, x: Tensor) -> Any:
    network.plain = 0.9 * network.plain + x.mean()
    return network.plain


def list_of_numbers(network: Kept, x: Tensor) -> Any:
    network.steps.append(float(x.mean()))
    return len(network.steps)


def dict_of_tensors(network: Kept, x: Tensor) -> Any:
    network.sums["a"] += 0.1
    network.sums["b"] = network.sums["a"] + 1
    return network.other["b"]


def array(network: Kept, x: Tensor) -> Any:
    network.array += 1
    return float(network.array[0])


def generators(network: Kept, x: Tensor) -> Any:
    drawn = torch.rand((), generator=network.torchs).item()
    return drawn + network.numpys.random() + network.pythons.random()


def plain_object(network: Kept, x: Tensor) -> Any:
    network.meter.count += 1
    return network.meter.count


def mode_of_a_part(network: Kept, x: Tensor) -> Any:
    network.calls += network.training
    if network.calls > 9:
        network.bn1.eval()
    return 0


def which_parameters_train(network: Kept, x: Tensor) -> Any:
    network.calls += network.training
    if network.calls == 9:
        network.conv2.requires_grad_(False)
    return 0


def opaque(network: Kept, x: Tensor) -> Any:
    return next(network.opaque)


KINDS = [
    counter, counter_in_training, buffer_not_persistent, buffer_reassigned, buffer_of_growing_size,
    buffer_that_comes_late, attribute_that_appears, attribute_that_goes, tensor, list_of_numbers, dict_of_tensors,
    array, generators, plain_object, mode_of_a_part, which_parameters_train,
]  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def use(kind: Any) -> None:
        monkeypatch.setattr(Kept, "kept", staticmethod(kind))
        monkeypatch.setattr(support, "SmallCNN", Kept)

    return use


def a_branched_run_is(alone: Any, folder: Path) -> None:
    """Checks that a run which goes on from the trunk of another is the one made alone."""
    with_checkpoints(folder, P_Q)
    branched = with_checkpoints(folder, FOUR_BITS)
    assert branched.trainer.resumed_from == 22
    same(branched, alone)


@kinds
def test_a_branched_and_a_resumed_run_are_the_run_made_alone(tmp_path: Path, keeping: Any, kind: Any) -> None:
    plain = train(FOUR_BITS)
    keeping(kind)
    alone = train(FOUR_BITS)
    assert alone.records.untimed() != plain.records.untimed()
    a_branched_run_is(alone, tmp_path)
    with pytest.raises(DiedError):
        with_checkpoints(tmp_path / "died", FOUR_BITS, every=5, dies_at=12)
    resumed = with_checkpoints(tmp_path / "died", FOUR_BITS, every=5)
    assert resumed.trainer.resumed_from == 11
    same(resumed, alone)


@kinds
def test_calibration_and_undoing_put_it_back(keeping: Any, kind: Any) -> None:
    keeping(kind)
    trainer, task, _ = make_trainer(P_Q)
    trainer._train_mode()
    batches = list(task.batches(0))
    trainer.step(batches[0])
    before = Undo(task, trainer.state.optimizers)
    assert trainer.compressor is not None
    again = trainer.step(batches[1]).item()
    trainer.step(batches[2])
    before.restore()
    trainer.compressor.enter(trainer.stages[-1], run=trainer._calibrate)
    for site in trainer.compressor._sites.values():
        site.pruning.fill_(False)
        site.quantizing.fill_(False)
        site.refresh()  # type: ignore[operator]
    assert trainer.step(batches[1]).item() == again


def test_what_cant_be_stored_is_named_and_not_shared(
    tmp_path: Path, keeping: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keeping(opaque)
    alone = train(FOUR_BITS)
    with_checkpoints(tmp_path, P_Q)
    assert files(tmp_path) == []
    assert [record.message for record in caplog.records] == [
        "can't save a checkpoint at step 11, the run continues without: network.opaque changes in training and "
        "can't be stored, so the run shares nothing"
    ]
    same(with_checkpoints(tmp_path, FOUR_BITS), alone)


CALLS = 0


def global_counter(network: Kept, x: Tensor) -> Any:
    global CALLS
    CALLS += 1
    return CALLS


def class_counter(network: Kept, x: Tensor) -> Any:
    Meter.made += 1
    return Meter.made


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


def replaced_part(network: Kept, x: Tensor) -> Any:
    network.bn1 = nn.Identity()
    return 0


def replaced_parameter(network: Kept, x: Tensor) -> Any:
    network.fc.bias = nn.Parameter(network.fc.bias.detach().clone())
    return 0


def replaced_object(network: Kept, x: Tensor) -> Any:
    network.meter = Meter()
    return 0


def slots(network: Kept, x: Tensor) -> Any:
    network.calls = Slots(1)  # type: ignore[assignment]
    return 0


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (replaced_part, "network._modules"),
        (replaced_parameter, "network.fc._parameters"),
        (replaced_object, "network.meter"),
        (slots, "network.calls"),
        (global_counter, f"{__name__}.CALLS"),
        (class_counter, f"{__name__}.Meter.made"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_other_objects_in_a_place_are_noticed(
    tmp_path: Path, keeping: Any, caplog: pytest.LogCaptureFixture, kind: Any, named: str
) -> None:
    keeping(kind)
    with_checkpoints(tmp_path, {}, checkpoint_steps=frozenset({3}))
    assert files(tmp_path) == []
    assert f"{named} changes in training" in caplog.text


def test_a_tasks_own_attributes_are_stored_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ClassificationTask.updates

    def weighted(self: Any, batch: Any) -> Any:
        self.updates_done = getattr(self, "updates_done", 0) + 1
        for name, loss in plain(self, batch):
            yield name, loss / self.updates_done

    batches = ClassificationTask.batches

    def counted(self: Any, epoch: int) -> Any:
        for batch in batches(self, epoch):
            self.fetched = getattr(self, "fetched", 0) + 1
            yield batch._replace(images=batch.images * (1 + 0.01 * self.fetched))

    monkeypatch.setattr(ClassificationTask, "updates", weighted)
    monkeypatch.setattr(ClassificationTask, "batches", counted)
    a_branched_run_is(train(FOUR_BITS), tmp_path)


def test_nothing_is_stored_for_a_network_without_such_state() -> None:
    trainer, _, _ = make_trainer(P_Q)
    trainer.run()
    assert trainer.state.capture()["attributes"] == {"set": {}, "gone": []}


@cuda
@pytest.mark.parametrize("kind", [counter, buffer_reassigned, buffer_not_persistent], ids=lambda kind: kind.__name__)
def test_a_step_that_changes_attributes_is_not_captured(
    keeping: Any, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keeping(kind)
    runs = {
        executor: train(P_Q, epochs=2, executor=executor, device=torch.device("cuda"))
        for executor in ("eager", "graph")
    }
    step = runs["graph"].trainer.step
    assert isinstance(step, GraphStep)
    assert step.captured == (kind is buffer_not_persistent)
    assert ("each step changes network." in caplog.text) == (not step.captured)
    losses = [[loss for _, loss in run.records.series("train/loss")] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # rounding alone moves the second epoch by 0.3 %
    kept = [getattr(run.task.network, "hidden", None) for run in runs.values()]
    assert torch.equal(kept[0], kept[1])


def test_batches_drawn_from_the_global_generators_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(self: Any, epoch: int) -> Any:
        order = torch.randperm(len(self.data.train))
        for index in order[: self.steps_per_epoch * self.batch_size].split(self.batch_size):
            yield self.data.normalise(self.data.train.take(index))

    monkeypatch.setattr(ClassificationTask, "batches", shuffled)
    a_branched_run_is(train(FOUR_BITS), tmp_path)


def test_a_run_whose_batches_dont_come_again_starts_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = itertools.count()
    plain = ClassificationTask.batches

    def unrepeatable(self: Any, epoch: int) -> Any:
        for batch in plain(self, epoch):
            yield batch._replace(images=batch.images * (1 + 0.01 * next(made)))

    monkeypatch.setattr(ClassificationTask, "batches", unrepeatable)
    with_checkpoints(tmp_path, P_Q)
    stored = files(tmp_path)
    made = itertools.count()
    again = with_checkpoints(tmp_path, FOUR_BITS)
    assert again.trainer.resumed_from == 0
    assert caplog.text.count("batches depend on more than seed and epoch") == 1
    assert files(tmp_path) == stored


@pytest.mark.parametrize("task", TINY)
def test_no_step_of_this_projects_tasks_changes_attributes_so_it_can_be_captured(task: str) -> None:
    trainer, parts, _ = tiny(task)
    trainer._train_mode()
    batches = list(parts.task.batches(0))
    trainer.step(batches[0])
    before = structure(state_roots(parts.task), apart=caches(parts.task))
    trainer.step(batches[1])
    assert differences(before, structure(state_roots(parts.task), apart=caches(parts.task))) == []


@pytest.mark.parametrize(
    ("kind", "named"),
    [(counter, "network.calls"), (buffer_reassigned, "network.hidden"), (buffer_not_persistent, None)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_steps_that_change_attributes_are_found_before_they_are_captured(
    keeping: Any, monkeypatch: pytest.MonkeyPatch, kind: Any, named: str | None
) -> None:
    keeping(kind)
    trainer, task, _ = make_trainer(P_Q)
    batch = next(task.batches(0))
    trainer.step(batch)  # creates the optimizer's state
    captured = GraphStep(cast(CompiledStep, SimpleNamespace(eager=trainer.step, compressor=None)))
    monkeypatch.setattr(captured, "_warm_up", lambda inputs, steps: [trainer.step(inputs) for _ in range(steps)])
    with pytest.raises(RuntimeError, match=f"changes {named}") if named else nullcontext():
        captured._check_state(batch)
