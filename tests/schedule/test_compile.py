import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.errors import ConfigError
from qp_runner.schedule import (
    Curve,
    Event,
    Op,
    Schedule,
    Stage,
    Target,
    TargetState,
    Time,
    Unit,
    first_event,
    recovery,
    total_steps,
)


@st.composite
def chains(draw: st.DrawFn, op: Op, target: Target) -> list[Event]:
    """Events of one op and target: windows that do not overlap, sparsities that do not fall."""
    points = sorted(draw(st.sets(st.integers(0, 200), max_size=6)))
    sparsities = sorted(draw(st.lists(st.floats(0, 0.99), min_size=3, max_size=3)))
    unit = draw(st.sampled_from([Unit.DUR, Unit.EP]))
    scale = {Unit.DUR: Fraction(1, 200), Unit.EP: Fraction(10, 200)}[unit]  # `trainings` have 10 epochs
    events = []
    for number, (start, end) in enumerate(zip(points[::2], points[1::2], strict=False)):
        ramp = op is Op.PRUNE and draw(st.booleans())
        events.append(
            Event(
                name=f"{op}_{target}_{number}",
                op=op,
                target=target,
                to=sparsities[number] if op is Op.PRUNE else draw(st.sampled_from([2, 4, 8, 16, 32])),
                start=Time(start * scale, unit),
                end=Time(end * scale, unit) if ramp else None,
                steps=draw(st.integers(1, 12)) if ramp else 1,
                curve=draw(st.sampled_from(list(Curve))),
            )
        )
    return events


schedules = st.tuples(*(chains(op, target) for op in Op for target in Target)).map(
    lambda groups: Schedule(tuple(event for group in groups for event in group))
)
trainings = st.integers(1, 300).map(lambda per_epoch: {"total_steps": 10 * per_epoch, "steps_per_epoch": per_epoch})


def state_before_training_step(schedule: Schedule, step: int, lengths: dict[str, int]) -> dict[Target, TargetState]:
    """The slow reference: replays every event's every moment, one after the other, up to a step."""
    state = {target: [0.0, 32] for target in Target}
    reached = dict.fromkeys(Target, 0.0)
    for event in sorted(schedule.events, key=lambda e: e.start.position(**lengths)):
        before = reached[event.target]
        start = event.start.position(**lengths)
        end = start if event.end is None else event.end.position(**lengths)
        for i in range(1, event.steps + 1):
            moment = start + (end - start) * i / event.steps
            if int(moment + Fraction(1, 2)) > step:
                continue
            if event.op == Op.QUANTIZE:
                state[event.target][1] = event.to
            elif event.curve == Curve.CUBIC:
                state[event.target][0] = before + (event.to - before) * (1 - (1 - i / event.steps) ** 3)
            else:
                state[event.target][0] = before + (event.to - before) * i / event.steps
        if event.op == Op.PRUNE:
            reached[event.target] = event.to
    return {target: TargetState(sparsity, int(bits)) for target, (sparsity, bits) in state.items()}


@settings(max_examples=60)
@given(schedules, trainings)
def test_stages_cover_every_step_once(schedule: Schedule, lengths: dict[str, int]) -> None:
    stages = schedule.compile(**lengths)
    steps = [step for stage in stages for step in range(stage.first, stage.last + 1)]
    assert steps == list(range(lengths["total_steps"]))
    assert all(after.first == before.last + 1 for before, after in pairwise(stages))
    assert all(stage.steps > 0 for stage in stages[:-1])
    assert stages[-1].steps >= 0
    assert total_steps(stages) == lengths["total_steps"]
    assert all(stage.fires for stage in stages[1:])


@settings(max_examples=60)
@given(schedules, trainings, st.randoms(use_true_random=False))
def test_the_order_in_which_events_are_written_does_not_matter(
    schedule: Schedule, lengths: dict[str, int], chance: random.Random
) -> None:
    written = chance.sample(schedule.events, len(schedule.events))
    assert Schedule(tuple(written)) == schedule
    renamed = Schedule(tuple(replace(event, name=str(number)) for number, event in enumerate(written)))
    assert renamed.compile(**lengths) == schedule.compile(**lengths)
    assert renamed.name_for(**lengths) == schedule.name_for(**lengths)
    assert (renamed.name, renamed.signature) == (schedule.name, schedule.signature)


@settings(max_examples=60)
@given(schedules, trainings, st.data())
def test_states_are_those_of_a_naive_replay(schedule: Schedule, lengths: dict[str, int], data: st.DataObject) -> None:
    stages = schedule.compile(**lengths)
    step = data.draw(st.integers(0, lengths["total_steps"] - 1))
    [stage] = [stage for stage in stages if stage.first <= step <= stage.last]
    for target, expected in state_before_training_step(schedule, step, lengths).items():
        assert stage.state(target).bits == expected.bits
        assert stage.state(target).sparsity == pytest.approx(expected.sparsity, abs=1e-12)
    for target in Target:  # at the end, exactly what was asked for
        wanted = [event.to for event in schedule.events if (event.op, event.target) == (Op.PRUNE, target)]
        assert stages[-1].state(target).sparsity == max(wanted, default=0.0)


@settings(max_examples=60)
@given(schedules, trainings)
def test_sparsity_never_falls_and_fires_names_every_change(schedule: Schedule, lengths: dict[str, int]) -> None:
    before = Stage(0, -1, TargetState(), TargetState(), frozenset())
    for stage in schedule.compile(**lengths):
        for target in Target:
            was, now = before.state(target), stage.state(target)
            assert now.sparsity >= was.sparsity
            assert now.sparsity == was.sparsity or (Op.PRUNE, target) in stage.fires
            assert now.bits == was.bits or (Op.QUANTIZE, target) in stage.fires
        before = stage


def compiled(*events: tuple[object, ...], total: int = 100, per_epoch: int = 10) -> tuple[Stage, ...]:
    keys = ("op", "target", "to", "start", "end", "steps", "curve")
    config = {str(i): dict(zip(keys, event, strict=False)) for i, event in enumerate(events)}
    return Schedule.from_config(config).compile(total_steps=total, steps_per_epoch=per_epoch)


def test_no_events_are_one_stage_of_float_training() -> None:
    stages = compiled()
    assert stages == (Stage(0, 99, TargetState(), TargetState(), frozenset()),)
    assert (first_event(stages), recovery(stages)) == (None, 100)


def test_a_cubic_ramp_in_numbers() -> None:
    stages = compiled(("prune", "weight", 0.5, "0.4dur", "0.64dur", 4), total=250, per_epoch=1)
    assert [(s.first, s.weight.sparsity) for s in stages] == [
        (0, 0.0), (115, 0.2890625), (130, 0.4375), (145, 0.4921875), (160, 0.5),
    ]  # fmt: skip
    assert (first_event(stages), recovery(stages)) == (115, 90)


def test_a_linear_ramp_climbs_from_where_the_last_one_ended() -> None:
    stages = compiled(
        ("prune", "weight", 0.5, "0dur", "0.2dur", 2, "linear"),
        ("prune", "weight", 0.75, "0.2dur", "0.4dur", 2, "linear"),
    )
    assert [(s.first, s.weight.sparsity) for s in stages] == [(0, 0), (10, 0.25), (20, 0.5), (30, 0.625), (40, 0.75)]


def test_events_at_the_start_belong_to_the_first_stage() -> None:
    stages = compiled(("quantize", "weight", 8, "0ep"))
    assert [(s.first, s.last, s.weight.bits, len(s.fires)) for s in stages] == [(0, 99, 8, 1)]
    assert (first_event(stages), recovery(stages)) == (0, 100)


def test_events_at_the_very_end_make_a_stage_without_steps() -> None:
    stages = compiled(("quantize", "weight", 8, "1dur"), ("quantize", "activation", 8, "10ep"))
    assert [(s.first, s.last, s.steps) for s in stages] == [(0, 99, 100), (100, 99, 0)]
    assert stages[-1].fires == {(Op.QUANTIZE, Target.WEIGHT), (Op.QUANTIZE, Target.ACTIVATION)}
    assert (first_event(stages), recovery(stages), total_steps(stages)) == (100, 0, 100)


def test_ramp_points_on_one_step_merge_to_the_last_value() -> None:
    stages = compiled(("prune", "weight", 0.5, "0it", "2it", 8))
    assert [s.first for s in stages] == [0, 1, 2]
    assert stages[0].weight.sparsity == 0.5 * (1 - (1 - 1 / 8) ** 3)
    assert stages[-1].weight.sparsity == 0.5


def test_quantizing_again_to_the_same_bits_fires_again() -> None:
    stages = compiled(("quantize", "weight", 8, "10it"), ("quantize", "weight", 8, "20it"))
    assert [s.fires for s in stages[1:]] == [{(Op.QUANTIZE, Target.WEIGHT)}] * 2


def test_32_bits_turn_quantization_off() -> None:
    stages = compiled(("quantize", "weight", 8, "10it"), ("quantize", "weight", 32, "20it"))
    assert [s.weight.bits for s in stages] == [32, 8, 32]


def ranked(*events: tuple[str, str, int], total: int = 100) -> list[tuple[int, int, list[str]]]:
    """Stages of events (op, time, rank) of weights: first step, last step, ops that fire."""
    config = {
        f"{op}_{number}": {
            "op": op,
            "target": "weight",
            "to": 0.5 if op == "prune" else 8,
            "start": start,
            "rank": rank,
        }
        for number, (op, start, rank) in enumerate(events)
    }
    stages = Schedule.from_config(config).compile(total_steps=total, steps_per_epoch=10)
    return [(each.first, each.last, sorted(op for op, _ in each.fires)) for each in stages]


@pytest.mark.parametrize(("one", "other"), [("prune", "quantize"), ("quantize", "prune")])
def test_ranks_split_a_step_into_stages_in_their_order(one: str, other: str) -> None:
    assert ranked((other, "1dur", 1), (one, "1dur", 0)) == [(0, 99, []), (100, 99, [one]), (100, 99, [other])]
    assert ranked((other, "0.4dur", 7), (one, "4ep", 0)) == [(0, 39, []), (40, 39, [one]), (40, 99, [other])]
    assert ranked((other, "0dur", 1), (one, "0dur", 0)) == [(0, -1, [one]), (0, 99, [other])]


def test_equal_ranks_fire_together_and_times_come_before_ranks() -> None:
    assert ranked(("prune", "1dur", 3), ("quantize", "1dur", 3)) == [(0, 99, []), (100, 99, ["prune", "quantize"])]
    assert ranked(("prune", "0.401dur", 0), ("quantize", "0.4dur", 1))[1:] == [
        (40, 39, ["quantize"]),
        (40, 99, ["prune"]),
    ]


def test_one_op_may_fire_twice_at_a_time_if_ranks_differ() -> None:
    assert len(ranked(("prune", "1dur", 0), ("quantize", "1dur", 1), ("prune", "1dur", 2))) == 4
    with pytest.raises(ConfigError, match="apart from prune_0"):
        ranked(("prune", "1dur", 0), ("prune", "1dur", 0))


def test_without_steps_events_keep_the_order_of_their_times() -> None:
    assert ranked(("prune", "0.9dur", 0), ("quantize", "0.2dur", 0), total=0) == [
        (0, -1, ["quantize"]),
        (0, -1, ["prune"]),
    ]
    assert ranked(("prune", "0it", 0), total=0) == [(0, -1, ["prune"])]
    assert ranked(total=0) == [(0, -1, [])]
    with pytest.raises(ConfigError, match="at most 1dur"):
        ranked(("prune", "3ep", 0), total=0)
    with pytest.raises(ValueError, match="no less than 0 steps"):
        Schedule().compile(total_steps=-1, steps_per_epoch=1)
