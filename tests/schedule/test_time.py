from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_runner.errors import ConfigError
from qp_runner.schedule import Time, Unit

LENGTHS = {"total_steps": 97_500, "steps_per_epoch": 390}
times = st.builds(Time, st.fractions(0, 10**6), st.sampled_from([Unit.DUR, Unit.EP])) | st.builds(
    Time, st.integers(0, 10**9).map(Fraction), st.just(Unit.IT)
)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("0.40dur", Fraction(2, 5), "dur"),
        ("230/250dur", Fraction(23, 25), "dur"),
        ("6.7/9dur", Fraction(67, 90), "dur"),
        ("12ep", Fraction(12), "ep"),
        ("3.5ep", Fraction(7, 2), "ep"),
        ("300it", Fraction(300), "it"),
        ("1e-05dur", Fraction(1, 100_000), "dur"),
        (" .5 dur ", Fraction(1, 2), "dur"),
    ],
)
def test_parse_reads_exact_amounts(text: str, amount: Fraction, unit: str) -> None:
    assert Time.parse(text) == Time(amount, Unit(unit))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (0.4, "t=0.4: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        ("0.4", "t=0.4: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        (None, "t=None: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        (True, "t=True: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        ("dur", "t=dur: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        ("nandur", "t=nandur: a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"),
        ("5 epochs", "t=5 epochs: units are dur, ep and it; did you mean ep?"),
        ("5steps", "t=5steps: units are dur, ep and it; did you mean it?"),
        ("5durr", "t=5durr: units are dur, ep and it; did you mean dur?"),
        ("-1ep", "t=-1ep: a time from 0, the start of training"),
        ("1/0dur", "t=1/0dur: a fraction over a number above 0"),
        ("1.5it", "t=1.5it: a whole number of steps; use ep or dur for parts"),
    ],
)
def test_parse_refuses_in_one_line(text: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Time.parse(text, key="t")
    assert str(caught.value) == message


@given(times)
def test_text_round_trips(time: Time) -> None:
    assert Time.parse(str(time)) == time


@pytest.mark.parametrize(
    ("text", "step"),
    [("0dur", 0), ("1dur", 97_500), ("230/250dur", 89_700), ("3.5ep", 1365), ("0.0128ep", 5), ("7it", 7)],
)
def test_to_step(text: str, step: int) -> None:
    assert Time.parse(text).to_step(**LENGTHS) == step


@given(st.integers(0, 10**6))
def test_halves_round_up(step: int) -> None:
    assert Time(Fraction(2 * step + 1, 2), Unit.EP).to_step(total_steps=1, steps_per_epoch=1) == step + 1


@given(times, st.integers(1, 10**5), st.integers(1, 10**4))
def test_a_step_is_at_most_half_a_step_from_its_time(time: Time, total: int, per_epoch: int) -> None:
    lengths = {"total_steps": total, "steps_per_epoch": per_epoch}
    assert abs(time.to_step(**lengths) - time.position(**lengths)) <= Fraction(1, 2)
