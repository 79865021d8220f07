"""What holds for every task: the same tests, whatever is learned."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from qp_runner.compress.site import Site
from qp_runner.schedule import Target
from qp_runner.training import Trainer
from tiny import TINY, tiny, tiny_checkpoints

tasks = pytest.mark.parametrize("task", TINY)


def latent_weights(parts) -> list[Tensor]:
    networks = parts.task.networks().values()
    return [parameter.detach().clone() for network in networks for parameter in network.parameters()]


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
    assert all(torch.equal(a, b) for a, b in zip(latent_weights(first), latent_weights(second), strict=True))
    states = [parts.compressor.state_dict().values() for parts in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@tasks
def test_coinciding_events_give_the_same_masks_and_scales_in_whatever_order_they_are_written(task: str) -> None:
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
def test_resumed_and_branched_runs_are_the_run_made_alone(task: str, tmp_path: Path) -> None:
    def finish(schedule: str, *, stored: bool) -> tuple[Trainer, list[Tensor], list[Tensor], object]:
        trainer, parts, records = tiny(task, f"schedule={schedule}")
        if stored:
            trainer.checkpoints = tiny_checkpoints(task, trainer, tmp_path)
        trainer.run()
        return trainer, latent_weights(parts), list(parts.compressor.state_dict().values()), records.untimed()

    finish("q_wf", stored=True)  # leaves the checkpoint that the next one starts from
    first = finish("p_q_wf", stored=True)
    again = finish("p_q_wf", stored=True)
    alone = finish("p_q_wf", stored=False)
    assert again[0].resumed_from > first[0].resumed_from
    for found in (first, again):
        for mine, theirs in zip(found[1:3], alone[1:3], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert found[3] == alone[3]
