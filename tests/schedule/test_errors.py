from collections.abc import Mapping

import pytest

from qp_runner.errors import ConfigError
from qp_runner.schedule import Schedule

GOOD: dict[str, object] = {"op": "prune", "target": "weight", "to": 0.5, "start": "0.4dur", "end": "0.6dur", "steps": 4}
QUANTIZE: dict[str, object] = {"op": "quantize", "target": "weight", "to": 8, "start": "0.9dur"}
TIME = "a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"
BITS = "whole bits from 2 to 16, or 32 for off"
SPARSITY = "a sparsity from 0 to below 1, as a number"
KEYS = "op, target, to, start, end, steps, curve, rank"


def message(events: object, **lengths: int) -> str:
    with pytest.raises(ConfigError) as caught:
        Schedule.from_config(events).compile(**lengths or {"total_steps": 100, "steps_per_epoch": 10})  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(("to", value, SPARSITY) for value in (1.2, 1, -0.1, float("nan"), True, "0.5", None)),
        *(("steps", value, "a whole number from 1") for value in (2.5, 4.0, True, "4", 0)),
        ("op", "prun", "one of prune, quantize; did you mean prune?"),
        ("op", 3, "one of prune, quantize"),
        ("target", "weights", "one of weight, activation; did you mean weight?"),
        ("curve", "cubical", "one of cubic, linear; did you mean cubic?"),
        ("curve", None, "one of cubic, linear"),
        ("start", None, TIME),
        ("end", "1.2dur", "at most 1dur, the end of training"),
        ("end", "0.4dur", "after start, which is 0.4dur"),
        ("stat", 1, f"unknown key; one of {KEYS}; did you mean start?"),
        ("name", 1, f"unknown key; one of {KEYS}"),
    ],
)
def test_bad_field_of_a_pruning(field: str, value: object, allowed: str) -> None:
    assert message({"a": GOOD | {field: value}}) == f"schedule.events.a.{field}={value}: {allowed}"


def test_several_steps_need_an_end() -> None:
    said = "schedule.events.a.steps=4: several steps need an end, so that they have somewhere to go"
    assert message({"a": GOOD | {"end": None}}) == said


@pytest.mark.parametrize("to", [1, 0, 17, 31, 33, -8, 8.0, 0.5, True, "8", None])
def test_bad_bits(to: object) -> None:
    assert message({"q": QUANTIZE | {"to": to}}) == f"schedule.events.q.to={to}: {BITS}"


@pytest.mark.parametrize(("field", "value"), [("end", "0.95dur"), ("steps", 2)])
def test_quantization_has_no_ramp(field: str, value: object) -> None:
    assert message({"q": QUANTIZE | {field: value}}).startswith(
        f"schedule.events.q.{field}={value}: quantization has no ramp"
    )


@pytest.mark.parametrize("missing", ["op", "target", "to", "start"])
def test_missing_key(missing: str) -> None:
    events = {"a": {key: value for key, value in GOOD.items() if key != missing}}
    assert message(events) == f"schedule.events.a.{missing}=(missing): every event needs op, target, to and start"


@pytest.mark.parametrize("events", [None, [], "p_q", [GOOD]])
def test_events_are_a_mapping(events: object) -> None:
    assert message(events) == f"schedule.events={events}: a mapping of events by name; {{}} for a float run"


def test_an_event_is_a_mapping() -> None:
    assert message({"a": None}) == (
        "schedule.events.a=None: a mapping with op, target, to, start; to drop it: ~schedule.events.a"
    )


@pytest.mark.parametrize(
    ("start", "past"), [("1.01dur", True), ("11ep", True), ("101it", True), ("100it", False), ("10ep", False)]
)
def test_an_event_past_the_end(start: str, past: bool) -> None:
    events = {"q": QUANTIZE | {"start": start}}
    if past:
        assert message(events) == f"schedule.events.q.start={start}: at most 1dur, the end of training"
    else:
        Schedule.from_config(events).compile(total_steps=100, steps_per_epoch=10)


def test_sparsity_that_falls_names_the_later_event() -> None:
    later = GOOD | {"to": 0.3, "start": "0.7dur", "end": "0.8dur"}
    expected = "schedule.events.a.to=0.3: sparsity may not fall; b prunes to 0.5 before it"
    assert message({"a": later, "b": GOOD}) == message({"b": GOOD, "a": later}) == expected


@pytest.mark.parametrize(
    "other",
    [
        GOOD | {"to": 0.6},
        GOOD | {"to": 0.6, "start": "0.5dur", "end": "0.7dur"},
        GOOD | {"to": 0.6, "start": "0.5dur", "end": None, "steps": 1},
        GOOD | {"to": 0.6, "start": "0.6dur", "end": None, "steps": 1},
        GOOD | {"to": 0.6, "start": "59it", "end": "0.9dur"},
        GOOD | {"to": 0.6, "start": "5.9ep", "end": "0.9dur"},
    ],
)
def test_overlap(other: Mapping[str, object]) -> None:
    expected = f"schedule.events.b.start={other['start']}: apart from a, which also has prune weight, 0.4dur to 0.6dur"
    assert message({"a": GOOD, "b": other}) == message({"b": other, "a": GOOD}) == expected


def test_two_events_at_one_instant() -> None:
    expected = "schedule.events.r.start=9ep: apart from q, which also has quantize weight, at 0.9dur"
    assert message({"q": QUANTIZE, "r": QUANTIZE | {"to": 4, "start": "9ep"}}) == expected


@pytest.mark.parametrize(
    "other",
    [
        GOOD | {"target": "activation"},
        QUANTIZE | {"start": "0.5dur"},
        GOOD | {"to": 0.6, "start": "0.6dur", "end": "0.8dur"},
        GOOD | {"to": 0.4, "start": "0.4dur", "end": None, "steps": 1},
    ],
)
def test_no_overlap(other: Mapping[str, object]) -> None:
    Schedule.from_config({"a": GOOD, "b": other}).compile(total_steps=100, steps_per_epoch=10)


def test_times_of_one_unit_are_checked_before_the_length_is_known() -> None:
    for faulty in (GOOD | {"end": "1.2dur"}, GOOD | {"end": "0.2dur"}, GOOD | {"start": "12ep", "end": "3ep"}):
        with pytest.raises(ConfigError):
            Schedule.from_config({"a": faulty})


def test_times_of_mixed_units_wait_for_the_length() -> None:
    schedule = Schedule.from_config({"a": GOOD | {"start": "5ep"}})
    schedule.compile(total_steps=100, steps_per_epoch=10)
    with pytest.raises(ConfigError, match=r"events\.a\.end=0\.6dur: after start, which is 5ep"):
        schedule.compile(total_steps=80, steps_per_epoch=10)
