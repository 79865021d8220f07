"""What people add to training: each against a slow and obvious reference."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR
from torch.utils._python_dispatch import TorchDispatchMode

from qp_runner.metric import Metric
from qp_runner.schedule import Target
from qp_runner.tasks import Distillation
from qp_runner.training import EarlyStop, LearningRate, StepOptions
from qp_runner.training.learning_rates import LearningRates
from support import P_Q, Records, make_trainer, train

UP, DOWN = Metric("accuracy", higher_is_better=True), Metric("fid", higher_is_better=False)


def by_hand(steps: int, advance: Callable[[nn.Module, Any, Optimizer], None]) -> list[Tensor]:
    """The weights of the small classifier after some steps without a trainer."""
    _, task, _ = make_trainer(None)
    optimizer = SGD(task.network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _, batch in zip(range(steps), task.batches(0), strict=False):
        optimizer.zero_grad()
        advance(task.network, batch, optimizer)
        optimizer.step()
    return [each.detach() for each in task.network.parameters()]


def by_trainer(steps: int, **settings: Any) -> list[Tensor]:
    trainer, task, _ = make_trainer(None, **settings)
    for _, batch in zip(range(steps), task.batches(0), strict=False):
        trainer.step(batch)
    return [each.detach() for each in task.network.parameters()]


def test_gradients_are_clipped_by_their_norm() -> None:
    def advance(network: nn.Module, batch: Any, _: Optimizer) -> None:
        F.cross_entropy(network(batch.images), batch.labels).backward()
        norm = math.sqrt(sum((each.grad**2).sum().item() for each in network.parameters()))
        for each in network.parameters():
            each.grad *= min(1.0, 0.05 / norm)

    clipped = by_trainer(5, step=StepOptions(grad_clip=0.05))
    for mine, theirs in zip(clipped, by_hand(5, advance), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(clipped[0], by_trainer(5)[0], atol=1e-4)
    for mine, theirs in zip(by_trainer(5, step=StepOptions(grad_clip=1e6)), by_trainer(5), strict=True):
        assert torch.equal(mine, theirs)


def test_a_batch_in_parts_has_the_mean_of_their_gradients() -> None:
    def advance(network: nn.Module, batch: Any, _: Optimizer) -> None:
        for number in range(4):  # batch norms see 32 images at a time
            part = slice(32 * number, 32 * number + 32)
            (F.cross_entropy(network(batch.images[part]), batch.labels[part]) / 4).backward()

    for mine, theirs in zip(by_trainer(5, step=StepOptions(accumulate=4)), by_hand(5, advance), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def rates(
    kind: LearningRate | None, warmup: int, *, lr: float | Tensor = 0.4, steps: int = 20, per_epoch: int = 5
) -> list[float]:
    """The rates of each step's group; `lr` is changed in place if it is a tensor, as those of captured steps are."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    made = LearningRates({"it": optimizer}, kind, warmup=warmup)
    if isinstance(lr, Tensor):
        optimizer.param_groups[0]["lr"] = lr.fill_(made.current)
    found = []
    for step in range(1, steps + 1):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        with OnlyWritten():
            made.after("step")
            if step % per_epoch == 0:
                made.after("epoch")
    return found


class OnlyWritten(TorchDispatchMode):
    """Inside, tensors may be written to, but nothing is computed from them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is torch.ops.aten.fill_.Scalar
        return func(*args, **(kwargs or {}))


def cosine(optimizer: Optimizer) -> LRScheduler:
    return CosineAnnealingLR(optimizer, 20)


KINDS = [
    None,
    LearningRate(cosine, "step"),
    LearningRate(lambda o: MultiStepLR(o, [1, 2], 0.1), "epoch"),
    LearningRate(lambda o: LambdaLR(o, lambda n: 0.9**n), "step"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_up_multiplies_what_the_schedule_gives(kind: LearningRate | None) -> None:
    plain, warmed = rates(kind, 0), rates(kind, 8)
    assert warmed[:8] == pytest.approx([rate * (step + 1) / 8 for step, rate in enumerate(plain[:8])])
    assert warmed[7:] == plain[7:]  # bit for bit


@pytest.mark.parametrize("warmup", [0, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_rates_on_a_device_are_those_of_other_steps_and_nothing_is_computed_there(
    kind: LearningRate | None, warmup: int
) -> None:
    assert rates(kind, warmup, lr=torch.zeros((), dtype=torch.float64)) == rates(kind, warmup)


def test_the_average_is_measured_and_kept() -> None:
    trainer, task, _ = make_trainer(P_Q, epochs=4, ema=0.9)
    network, step = task.network, trainer.step
    tensors = [*network.parameters(), *(each for each in network.buffers() if each.is_floating_point())]
    average, count, seen = [each.detach().double().clone() for each in tensors], 0, []
    plain = task.evaluate

    def stepped(batch: Any) -> Tensor:
        nonlocal average, count
        loss = step(batch)
        count += 1
        decay = min(0.9, (1 + count) / (10 + count))
        average = [decay * mean + (1 - decay) * each.detach() for mean, each in zip(average, tensors, strict=True)]
        return loss

    def measured(split: Any) -> dict[str, float]:
        seen.append([each.detach().clone() for each in tensors])
        for mine, mean in zip(seen[-1], average, strict=True):
            torch.testing.assert_close(mine.double(), mean, rtol=1e-3, atol=1e-5)
        return plain(split)

    stepped.setup_seconds = 0.0  # type: ignore[attr-defined]
    trainer.step, task.evaluate = stepped, measured  # type: ignore[assignment, method-assign]
    value = trainer.run()["accuracy"]
    assert len(seen) == 4
    assert all(torch.equal(*pair) for pair in zip(seen[-1], tensors, strict=True))  # the run ends with the average
    assert plain("val")["accuracy"] == value
    assert trainer.compressor is not None
    for site, latent in trainer.compressor.latents().items():
        values = site(latent)
        assert not values[site.mask == 0].any()
        assert torch.equal(values / site.element_scale, (values / site.element_scale).round())
    assert trainer.compressor.sparsity(Target.WEIGHT) == pytest.approx(0.5, abs=0.02)


def test_an_average_does_not_change_training() -> None:
    plain, averaged = train(P_Q), train(P_Q, ema=0.9)
    losses = [run.records.series("train/loss") for run in (plain, averaged)]
    assert losses[0] == losses[1]
    assert plain.records.series("val/accuracy") != averaged.records.series("val/accuracy")


@pytest.mark.parametrize(
    ("values", "metric", "last_event", "ends"),
    [
        ([1, 2, 3, 3, 3], UP, None, True),
        ([1, 2, 3, 3], UP, None, False),
        ([1, 2, 3, 3, 3], DOWN, None, True),
        ([3, 2, 1, 0, 0], DOWN, None, False),
        ([9, 9, 9, 3, 3, 3], UP, 35, True),
        ([9, 9, 9, 3, 3], UP, 35, False),  # what came before the last event does not count
        ([9, 9, 9, 9], UP, 40, False),
    ],
)
def test_a_run_ends_when_nothing_gets_better_after_the_last_event(
    values: list[float], metric: Metric, last_event: int | None, ends: bool
) -> None:
    history = [(10 * (number + 1), {f"val/{metric.name}": float(each)}) for number, each in enumerate(values)]
    history.append((10 * len(values), {"compress/bits_weight": 8.0}))
    assert EarlyStop(2).reached(history, metric, last_event=last_event) == ends


def test_a_gain_has_to_be_large_enough() -> None:
    history = [(number, {"val/accuracy": 0.1 * number}) for number in range(1, 6)]
    assert not EarlyStop(2).reached(history, UP, last_event=None)
    assert EarlyStop(2, min_delta=1.0).reached(history, UP, last_event=None)


def test_a_run_that_ends_early_has_had_all_its_events() -> None:
    def finish(**settings: Any) -> tuple[int, Records, Any]:
        trainer, _, records = make_trainer(P_Q, epochs=12, **settings)
        trainer.run()
        return trainer.state.steps_done, records, trainer

    steps, records, trainer = finish(early_stop=EarlyStop(1, min_delta=100.0))
    last_event = max(stage.first for stage in trainer.stages if stage.fires)
    assert last_event < steps < trainer.total_steps
    assert trainer.compressor.bits(Target.WEIGHT) == 8
    whole = finish()[1]
    assert records.series("val/accuracy") == whole.series("val/accuracy")[: steps // 7]


def test_a_student_learns_the_teachers_probabilities() -> None:
    torch.manual_seed(0)
    teacher, student, inputs = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(6, 4)
    own = torch.tensor(2.0)
    made = Distillation(copy.deepcopy(teacher), temperature=3.0, weight=0.7)
    loss = made(own, student(inputs), lambda network: network(inputs))
    p, q = ((network(inputs) / 3).softmax(1) for network in (teacher, student))
    divergence = (p * (p / q).log()).sum(1).mean()
    assert loss.item() == pytest.approx(0.3 * 2.0 + 0.7 * 9 * divergence.item(), rel=1e-5)
    loss.backward()
    assert student.weight.grad is not None
    assert all(each.grad is None and not each.requires_grad for each in made.network.parameters())
