import math

import pytest

from qp_runner.metric import Metric
from qp_runner.report.words import column, epochs, metric_number, number, p_value, spelled, spread, whole
from qp_runner.shares import percent

ACCURACY = Metric("accuracy", True, "%")


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
