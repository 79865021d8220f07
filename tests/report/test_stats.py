import math

import pytest

from qp_runner.report.stats import holm, paired, summarise


def test_a_summary_by_hand() -> None:
    found = summarise([1.0, 2.0, 4.0, math.nan])
    assert (found.n, found.mean) == (3, pytest.approx(7 / 3))
    assert found.std == pytest.approx(math.sqrt(7 / 3))  # squares 16/9 + 1/9 + 25/9 over n - 1
    assert (summarise([3.0]).std, summarise([3.0]).mean) == (None, 3.0)
    assert summarise([]).n == 0
    assert math.isnan(summarise([]).mean)


@pytest.mark.parametrize(("shift", "excludes_zero"), [(0.0, False), (3.0, True), (-7.0, True)])
def test_a_paired_interval_by_hand(shift: float, excludes_zero: bool) -> None:
    found = paired([1.0 + shift, 2.0 + shift, 3.0 + shift])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2), standard deviation 1
    assert (found.n, found.mean) == (3, 2.0 + shift)
    assert found.interval == pytest.approx((2 + shift - half, 2 + shift + half))
    assert found.excludes_zero == excludes_zero
    assert found.p is not None
    assert (found.p < 0.05) == excludes_zero


@pytest.mark.parametrize("differences", [[], [1.0], [0.5, 0.5, 0.5], [0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_no_interval_where_there_is_nothing_to_estimate_it_from(differences: list[float]) -> None:
    found = paired(differences)
    assert (found.n, found.interval, found.p, found.excludes_zero) == (len(differences), None, None, False)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
