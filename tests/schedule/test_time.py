from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_runner.errors import ConfigError
from qp_runner.schedule import Time, Unit
from qp_runner.schedule.time import EXAMPLES

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
        *((text, EXAMPLES) for text in (0.4, "0.4", None, True, "dur", "nandur")),
        ("5 epochs", "units are dur, ep and it; did you mean ep?"),
        ("5steps", "units are dur, ep and it; did you mean it?"),
        ("5durr", "units are dur, ep and it; did you mean dur?"),
        ("-1ep", "a time from 0, the start of training"),
        ("1/0dur", "a fraction over a number above 0"),
        ("1.5it", "a whole number of steps; use ep or dur for parts"),
    ],
)
def test_parse_refuses_in_one_line(text: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Time.parse(text, key="t")
    assert str(caught.value) == f"t={text}: {message}"


@given(times)
def test_text_is_read_back_exactly(time: Time) -> None:
    assert Time.parse(str(time)) == time


@pytest.mark.parametrize("text", ["0.4dur", "0.00001dur", "2.5ep", "100ep", "300it", "230/3dur"])
def test_text_is_as_a_person_writes_it(text: str) -> None:
    assert str(Time.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "step"),
    [("0dur", 0), ("1dur", 97_500), ("230/250dur", 89_700), ("3.5ep", 1365), ("0.0128ep", 5), ("7it", 7)],
)
def test_to_step(text: str, step: int) -> None:
    assert Time.parse(text).to_step(**LENGTHS) == step


@given(times, st.integers(1, 10**5), st.integers(1, 10**4))
def test_a_step_is_the_nearest_and_halves_round_up(time: Time, total: int, per_epoch: int) -> None:
    lengths = {"total_steps": total, "steps_per_epoch": per_epoch}
    assert -Fraction(1, 2) < time.to_step(**lengths) - time.position(**lengths) <= Fraction(1, 2)
    assert Time(Fraction(2 * total + 1, 2), Unit.EP).to_step(total_steps=1, steps_per_epoch=1) == total + 1
