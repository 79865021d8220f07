"""The training loop. What holds for every task is in tests/tasks/test_invariants.py."""

from typing import Any

import pytest
import torch

from qp_runner.schedule import Target
from qp_runner.training import LearningRate, TrainingDivergedError
from support import P_Q, train


def same_latent_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_without_events_a_run_is_bit_identical_to_training_without_a_compressor() -> None:
    plain, attached = train(None), train({})
    assert same_latent_weights(plain.weights, attached.weights)
    for name in ("train/loss", "val/accuracy", "val/loss"):
        assert plain.records.series(name) == attached.records.series(name)


def test_another_seed_gives_another_run() -> None:
    assert not same_latent_weights(train(None, seed=0, epochs=1).weights, train(None, seed=1, epochs=1).weights)


def test_events_are_recorded_at_their_own_steps() -> None:
    run = train(P_Q)
    starts = {stage.first for stage in run.trainer.stages}
    assert starts <= {step for step, _ in run.records.series("compress/sparsity_weight")}
    sparsity = [value for _, value in run.records.series("compress/sparsity_weight")]
    assert sparsity == sorted(sparsity)


def test_an_event_at_the_end_compresses_after_training() -> None:
    after = {"quantize_weight": {"op": "quantize", "target": "weight", "to": 2, "start": "1dur"}}
    float_run, quantized = train({}), train(after)
    assert quantized.compressor.bits(Target.WEIGHT) == 2
    assert same_latent_weights(float_run.weights, quantized.weights)
    assert quantized.records.series("val/loss")[-1] != float_run.records.series("val/loss")[-1]


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, by step 7 of 28.*trainer\.optimizer\.lr"):
        train({}, make_optimizer=lambda groups: torch.optim.SGD(groups, lr=1e38))


@pytest.mark.parametrize(("interval", "halvings"), [("epoch", (0, 1, 2, 3)), ("step", (6, 13, 20, 27))])
def test_the_learning_rate_steps_once_an_interval_and_that_of_an_epochs_last_step_is_recorded(
    interval: Any, halvings: tuple[int, ...]
) -> None:
    halve = LearningRate(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), interval)
    rates = [rate for _, rate in train({}, learning_rate=halve).records.series("train/lr")]
    assert rates == pytest.approx([0.1 * 0.5**count for count in halvings])


def test_in_a_warm_up_the_rate_of_an_epochs_last_step_is_recorded() -> None:
    run = train({}, warmup_steps=14)
    assert run.task.steps_per_epoch == 7
    assert [rate for _, rate in run.records.series("train/lr")] == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_every_epoch_is_recorded_with_its_steps() -> None:
    run = train(P_Q)
    assert [step for step, _ in run.records.series("val/accuracy")] == [7, 14, 21, 28]


def test_bfloat16_trains_and_keeps_masks_and_scales_in_float32() -> None:
    run = train(P_Q, precision="bfloat16")
    assert all(
        v.dtype == torch.float32 for k, v in run.compressor.state_dict().items() if k.endswith(("mask", "scale"))
    )
    assert run.records.series("val/accuracy")[-1][1] > 50


def test_the_figure_is_measured_on_what_was_trained() -> None:
    run = train({}, epochs=6)
    assert run.task.evaluate("test")["accuracy"] > 85


def test_validation_is_measured_every_n_epochs_and_after_the_last() -> None:
    run = train(None, epochs=5, evaluate_every=2)
    per_epoch = run.task.steps_per_epoch
    assert [step // per_epoch for step, _ in run.records.series("train/loss")] == [1, 2, 3, 4, 5]
    assert [step // per_epoch for step, _ in run.records.series("val/accuracy")] == [2, 4, 5]
    always = train(None, epochs=5)
    assert run.records.series("val/accuracy")[-1] == always.records.series("val/accuracy")[-1]
    assert same_latent_weights(run.weights, always.weights)
