import math
from collections.abc import Callable

import pytest

from qp_runner.metric import Metric
from qp_runner.report.effect import order_effects
from qp_runner.report.headline import headline
from qp_runner.report.rows import Row
from qp_runner.report.sections import Section
from qp_runner.report.words import column, epochs, metric_number, number, p_value, percent, spelled, spread, whole

P, Q, BOTH = "P0.5(w) → Q8(w)", "Q8(w) → P0.5(w)", "P0.5(w) + Q8(w)"
ACCURACY = Metric("accuracy", True, "%")
Make = Callable[..., Row]


@pytest.mark.parametrize(
    ("value", "text"),
    [(98.526, "98.53"), (-1.5, "−1.50"), (0.1517, "0.152"), (0.0, "0.00"), (2345.6, "2,346"), (3.14e-6, "3.1×10⁻⁶")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_other_words() -> None:
    assert number(math.nan) == number(None) == percent(math.nan) == whole(math.inf) == epochs(5, 0) == "–"
    assert (percent(0.4375), whole(8.0), epochs(53, 22), p_value(1e-9)) == ("43.8 %", "8", "2.41", "p < 0.001")
    assert column([1.2, 0.3, 0.152, math.nan]) == ["1.200", "0.300", "0.152", "–"]
    assert column([3.14e-6, 2e-5]) == ["3.1×10⁻⁶", "2.0×10⁻⁵"]
    assert column([2000.4, 525.1]) == ["2,000", "525"]
    assert spelled("fid_efficientnet_lite0") == "FID (efficientnet_lite0)"
    assert metric_number(ACCURACY, 0.5, signed=True) == "+0.50"
    assert spread(ACCURACY, 98.0, 0.123) == "98.00 ± 0.12"
    assert spread(Metric("loss", False, ""), 3.14e-6, 2e-7) == "3.1×10⁻⁶ ± 2.0×10⁻⁷"


def answer(*rows: Row) -> str:
    effects = tuple(order_effects(rows, ACCURACY))
    section = Section("t", "m", "d", "", "1", ACCURACY, tuple(rows), effects, None, 0)  # type: ignore[arg-type]
    found = headline(section)
    assert all(line.endswith(".") for line in found.because)
    return found.answer


def test_the_answer_is_no_stronger_than_the_runs_allow(row: Make) -> None:
    good, bad = {0: 98.0, 1: 97.0, 2: 96.1}, {0: 95.0, 1: 94.1, 2: 93.0}
    assert answer(row(P, good)) == "No answer here."
    assert answer(row(P, {0: 98.0}), row(Q, {0: 90.0})) == "One seed: no verdict."
    assert answer(row(P, good), row(Q, {0: 98.1, 1: 96.8, 2: 96.2})) == "No difference shown."
    assert answer(row(P, good), row(Q, bad)) == "Prune first, then quantize."
    assert answer(row(P, bad), row(Q, good)) == "Quantize first, then prune."
    assert answer(row(P, good, recovery=50), row(Q, bad)) == "Pruning first did better."
    assert answer(row(P, bad), row(BOTH, good)) == f"{BOTH} did better."


def test_a_pair_with_equal_recovery_decides_over_one_without(row: Make) -> None:
    good, bad = {0: 98.0, 1: 97.0, 2: 96.1}, {0: 95.0, 1: 94.1, 2: 93.0}
    confounded = [row(P, good, recovery=50, schedule="p_q"), row(Q, bad, schedule="q_p")]
    controlled = [row(P, bad, schedule="controlled/p_q"), row(Q, good, schedule="controlled/q_p")]
    assert answer(*confounded, *controlled) == "Quantize first, then prune."
