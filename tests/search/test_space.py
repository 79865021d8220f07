"""Ranges become optuna's distributions and a command line's values: exact, inside, and as Hydra reads them."""

import math
from decimal import Decimal
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from qp_runner.config import RangeSection
from qp_runner.schedule import Time
from qp_runner.search.space import Space, distribution, literal, text

optuna = pytest.importorskip("optuna")

PARSER = OverridesParser.create()


def suggest(given: RangeSection, seed: int = 0) -> Any:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return study.ask({"x": distribution(given)}).params["x"]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 12), st.integers(0, 3), st.integers(0, 99))
def test_a_range_of_steps_gives_exact_decimals(low: int, count: int, step: int, places: int, seed: int) -> None:
    scale = Decimal(10) ** -places
    ends = [float(number * scale) for number in (low, low + count * step)]
    steps = RangeSection(low=ends[0], high=ends[1], step=float(step * scale))
    exact = [(low + number * step) * scale for number in range(count + 1)]
    assert Decimal(text(steps, suggest(steps, seed))) in exact
    space = Space({"x": steps})
    assert space.size == count + 1
    assert [Decimal(each) for each in space.ends()["x"]] == [exact[0], exact[-1]]


@given(st.floats(1e-6, 1e6), st.floats(1, 1e3), st.booleans(), st.integers(0, 99))
def test_a_range_without_steps_gives_the_suggestion_itself(low: float, ratio: float, log: bool, seed: int) -> None:
    plain = RangeSection(low=low, high=low * ratio, log=log)
    value = suggest(plain, seed)
    assert plain.low is not None
    assert plain.high is not None
    assert plain.low <= value <= plain.high
    assert float(text(plain, value)) == value
    assert Space({"x": plain}).size == (1 if plain.low == plain.high else math.inf)


@given(st.integers(-5, 5), st.integers(0, 9), st.integers(0, 99))
def test_whole_ends_give_whole_numbers(low: int, count: int, seed: int) -> None:
    whole = RangeSection(low=low, high=low + count)
    value = text(whole, suggest(whole, seed))
    assert low <= int(value) <= low + count
    assert Space({"x": whole}).size == count + 1


def test_times_have_their_unit_and_are_exact() -> None:
    time = RangeSection(low=0.5, high=0.95, step=0.05, unit="dur")
    assert text(time, 0.6500000000000001) == "0.65dur"
    space = Space({"a": time, "b": RangeSection(low=0.1, high=0.9), "c": RangeSection(choices=["0.3dur"])})
    assert space.times() == [f"{(50 + 5 * number) / 100:g}dur" for number in range(10)]
    for each in space.times():
        assert str(Time.parse(each)) == each
    assert text(RangeSection(low=4, high=12, step=1, unit="ep"), 7) == "7ep"
    assert text(RangeSection(low=30, high=60, unit="it"), 31) == "31it"
    assert not RangeSection(low=0, high=1, unit="dur").whole


@example("\\0")
@example("\\")
@example("it's \\' \\\\")
@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="ascii")))
def test_choices_are_read_back_as_they_are(value: Any) -> None:
    if isinstance(value, str) and any(not each.isprintable() for each in value):
        return  # no command line has these
    override = PARSER.parse_override(f"key={literal(value)}")
    assert override.value() == value
    assert type(override.value()) is type(value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either choices or both low and high"),
        ({"low": 1}, "either choices or both low and high"),
        ({"low": 1, "high": 2, "choices": [1]}, "not both"),
        ({"choices": [1, 1]}, "every choice once"),
        ({"choices": []}, "at least 1 item"),
        ({"low": 2, "high": 1}, "low at most high"),
        ({"low": 0.1, "high": 0.5, "step": 0.0}, "a step above 0"),
        ({"low": 0.1, "high": 0.55, "step": 0.1}, "such as 0.5"),
        ({"low": 0, "high": 5, "log": True}, "low above 0 and no step"),
        ({"low": 1, "high": 5, "log": True, "step": 2}, "low above 0 and no step"),
        ({"low": 0.5, "high": 1.5, "unit": "dur"}, "at most 1"),
        ({"low": -0.5, "high": 0.5, "unit": "dur"}, "from 0"),
        ({"low": 0.5, "high": 3.5, "unit": "it"}, "whole numbers of steps"),
        ({"low": 0.5, "high": 3.5, "unit": "s"}, "'dur', 'ep' or 'it'"),
        ({"low": "0.5dur", "high": 3.5}, "valid"),
    ],
)
def test_a_bad_range_says_what_is_allowed(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RangeSection.model_validate(given)
