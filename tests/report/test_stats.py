import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from qp_runner.report.stats import holm, paired, summarise

numbers = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))


def test_a_summary_by_hand() -> None:
    found = summarise([1.0, 2.0, 4.0, math.nan])
    assert (found.n, found.mean) == (3, pytest.approx(7 / 3))
    assert found.std == pytest.approx(math.sqrt(7 / 3))  # squares 16/9 + 1/9 + 25/9 over n - 1


def test_one_value_has_no_spread_and_none_has_no_mean() -> None:
    assert (summarise([3.0]).std, summarise([3.0]).mean) == (None, 3.0)
    assert summarise([]).n == 0
    assert math.isnan(summarise([]).mean)


def test_a_paired_interval_by_hand() -> None:
    found = paired([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2), standard deviation 1
    assert (found.n, found.mean, found.std) == (3, 2.0, 1.0)
    assert found.low == pytest.approx(2 - half)
    assert found.high == pytest.approx(2 + half)
    assert not found.excludes_zero


@settings(max_examples=60)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_a_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    differences = [a - b for a, b in pairs]
    assume(max(differences) - min(differences) > 0.01)
    found, reference = paired(differences), scipy_stats.ttest_rel(first, second)
    low, high = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-6, abs=1e-9), pytest.approx(high, rel=1e-6, abs=1e-9))
    if abs(reference.pvalue - 0.05) > 1e-9:
        assert found.excludes_zero == (reference.pvalue < 0.05)


@pytest.mark.parametrize("differences", [[], [1.0], [0.5, 0.5, 0.5], [0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_no_interval_where_there_is_nothing_to_estimate_it_from(differences: list[float]) -> None:
    found = paired(differences)
    assert found.n == len(differences)
    assert (found.low, found.high, found.p, found.has_interval, found.excludes_zero) == (None, None, None, False, False)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    for p, each in zip(ps, adjusted, strict=True):
        assert p <= each <= min(1.0, len(ps) * p) + 1e-12
    by_p = [each for _, each in sorted(zip(ps, adjusted, strict=True))]
    assert by_p == sorted(by_p)
