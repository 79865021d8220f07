"""Tests that hold for every task."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from qp_runner.compress.site import Site
from qp_runner.data import Batch
from qp_runner.run.build import build_task
from qp_runner.schedule import Target
from qp_runner.tasks import Task
from qp_runner.tasks.classification import ClassificationTask
from qp_runner.training import Trainer
from tiny import TINY, tiny, tiny_checkpoints, tiny_config

tasks = pytest.mark.parametrize("task", TINY)


def weights(task: Task) -> list[Tensor]:
    """Copies of all parameters; latent weights where a compressor is attached."""
    return [parameter.detach().clone() for network in task.networks().values() for parameter in network.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@tasks
def test_initial_weights_depend_on_the_seed_only(task: str) -> None:
    before = torch.get_rng_state()
    built = build_task(tiny_config(task, "seed=3"))
    assert torch.equal(torch.get_rng_state(), before)  # building draws nothing from the global generator
    assert all(module.training for network in built.networks().values() for module in network.modules())
    first = weights(built)
    torch.rand(100)
    assert equal(first, weights(build_task(tiny_config(task, "seed=3"))))
    assert not equal(first, weights(build_task(tiny_config(task, "seed=4"))))


@tasks
def test_evaluation_repeats_itself_and_changes_nothing(task: str) -> None:
    made = build_task(tiny_config(task))
    networks = made.networks().values()
    modules = [module for network in networks for module in network.modules()]
    modules[-1].eval()  # modules may differ in mode
    modes, random = [module.training for module in modules], torch.get_rng_state()
    state = [value.clone() for network in networks for value in network.state_dict().values()]
    measured = made.evaluate("val")
    made.pictures()
    assert made.evaluate("val") == measured
    assert made.metric.name in measured
    assert [module.training for module in modules] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert equal(state, [value for network in networks for value in network.state_dict().values()])


@tasks
def test_each_update_reaches_the_networks_of_its_optimizer_only(task: str) -> None:
    made = build_task(tiny_config(task))
    groups = {name: {id(p) for g in given for p in g["params"]} for name, given in made.parameter_groups().items()}
    parameters = [parameter for network in made.networks().values() for parameter in network.parameters()]
    assert sorted(each for group in groups.values() for each in group) == sorted(map(id, parameters))
    names = []
    for name, loss in made.updates(next(made.batches(0))):
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        reached = {id(p) for p in parameters if p.grad is not None and p.grad.abs().sum() > 0}
        assert reached
        assert reached <= groups[name]
        names.append(name)
    assert sorted(names) == sorted(groups)
    assert all(parameter.requires_grad for parameter in parameters)
    assert len(list(made.batches(0))) == made.steps_per_epoch


@tasks
def test_what_steps_are_given_makes_the_epochs_batches(task: str) -> None:
    made = build_task(tiny_config(task))
    batches = list(made.batches(1))
    assert all(
        equal(tree_leaves(made.make(given)), tree_leaves(b)) for given, b in zip(made.given(1), batches, strict=True)
    )
    assert all(made.make(batch) is batch for batch in batches)


def test_steps_are_given_a_tasks_own_batches() -> None:
    class Doubled(ClassificationTask):
        def batches(self, epoch: int) -> Iterator[Batch]:
            for images, labels in super().batches(epoch):
                yield Batch(2 * images, labels)

    made = build_task(tiny_config("classification"))
    plain = list(made.batches(0))
    made.__class__ = Doubled
    assert all(equal([made.make(given)[0]], [2 * b.images]) for given, b in zip(made.given(0), plain, strict=True))


@tasks
def test_inference_passes_the_compressed_networks_and_no_others(task: str) -> None:
    made, called = build_task(tiny_config(task)), set()
    for name, network in made.networks().items():
        network.register_forward_hook(lambda *_, name=name: called.add(name))
    made.infer(made.sample())
    made.infer(next(iter(made.calibration_batches(samples=2, batch_size=2))))
    assert called == set(made.compressible()) == {name for name in made.networks() if "discriminator" not in name}


@tasks
def test_moving_takes_networks_data_and_state_along(task: str) -> None:
    made = build_task(tiny_config(task))
    made.to(torch.device("meta"))
    image = made.sample()[0][0]
    assert {each.device.type for each in (*weights(made), *made.state_dict().values(), image)} == {"meta"}


@tasks
def test_pruned_elements_are_zero_and_codes_in_range_at_every_step(task: str) -> None:
    trainer, parts, _ = tiny(task, "schedule=p_q_wf")
    checked = {"pruned": 0, "quantized": 0}

    def check(site: Site, _inputs: object, made: Tensor) -> None:
        by_channel = site.mask.numel() == site.mask.shape[:1].numel()
        if site.is_pruning and (by_channel or made.shape[-2:] == site.mask.shape[-2:]):
            checked["pruned"] += 1
            assert not made.masked_select((site.mask == 0).expand_as(made)).any()
        if site.is_quantizing:
            checked["quantized"] += 1
            codes = made / site.scale
            assert torch.equal(codes, codes.round())
            assert site.low <= codes.min()
            assert codes.max() <= site.high

    for target in Target:
        for site in parts.compressor.sites(target):
            site.register_forward_hook(check)
    trainer.run()
    assert all(checked.values())


@tasks
def test_a_run_ends_with_what_its_schedule_says(task: str) -> None:
    trainer, parts, _ = tiny(task, "schedule=q_p_wf")
    trainer.run()
    for target in Target:
        assert parts.compressor.sparsity(target) == pytest.approx(0.5, abs=0.05)
        assert parts.compressor.bits(target) < 32


@tasks
def test_before_its_first_event_a_run_is_the_float_run(task: str) -> None:
    float_trainer, _, float_records = tiny(task)
    float_trainer.run()
    trainer, _, records = tiny(task, "schedule=p_q_wf")
    trainer.run()
    first = min(stage.first for stage in trainer.stages if stage.first > 0)
    until = [entry for entry in float_records.series("train/loss") if entry[0] <= first]
    assert until
    assert records.series("train/loss")[: len(until)] == until
    assert records.series("train/loss") != float_records.series("train/loss")


@tasks
def test_the_same_run_gives_the_same_bits(task: str) -> None:
    runs = []
    for _ in range(2):
        trainer, parts, _ = tiny(task, "schedule=p_q_wf")
        trainer.run()
        runs.append(parts)
    first, second = runs
    assert equal(weights(first.task), weights(second.task))
    assert equal(*(list(parts.compressor.state_dict().values()) for parts in runs))


@tasks
def test_the_order_in_which_coinciding_events_are_written_does_not_matter(task: str) -> None:
    states = []
    for names in (("a", "b", "c", "d"), ("d", "c", "b", "a")):
        both = {names[0]: "prune weight 0.5", names[1]: "prune activation 0.5", names[2]: "quantize weight 8"}
        both[names[3]] = "quantize activation 8"
        events = []
        for name in sorted(both):
            op, target, to = both[name].split()
            events.append(f"+schedule.events.{name}={{op: {op}, target: {target}, to: {to}, start: 0.4dur}}")
        trainer, parts, _ = tiny(task, *events)
        trainer.run()
        states.append(parts.compressor.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@tasks
def test_resumed_and_branched_runs_equal_the_uninterrupted_run(task: str, tmp_path: Path) -> None:
    def finish(schedule: str, *, stored: bool) -> tuple[Trainer, list[Tensor], list[Tensor], object]:
        trainer, parts, records = tiny(task, f"schedule={schedule}")
        if stored:
            trainer.checkpoints = tiny_checkpoints(task, trainer, tmp_path)
        trainer.run()
        return trainer, weights(parts.task), list(parts.compressor.state_dict().values()), records.untimed()

    finish("q_wf", stored=True)  # leaves the checkpoint that the next one starts from
    first = finish("p_q_wf", stored=True)
    again = finish("p_q_wf", stored=True)
    alone = finish("p_q_wf", stored=False)
    assert again[0].resumed_from > first[0].resumed_from
    for found in (first, again):
        assert equal(found[1], alone[1])
        assert equal(found[2], alone[2])
        assert found[3] == alone[3]
