from collections.abc import Callable

import pytest

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, Verdict, family, order_effects
from qp_runner.report.effect_words import caution, verdict
from qp_runner.report.rows import Row

UP, DOWN = Metric("accuracy", True, "%"), Metric("FID", False, "")
P, Q = "P0.5(w) → Q8(w)", "Q8(w) → P0.5(w)"
Make = Callable[..., Row]


def only(rows: list[Row], metric: Metric = UP) -> Effect:
    (found,) = order_effects(rows, metric)
    return found


def test_one_seed_gets_no_interval_and_no_verdict(row: Make) -> None:
    found = only([row(P, {0: 98.0}), row(Q, {0: 90.0})])
    assert verdict(found, UP) == "one seed: no verdict"
    assert not found.paired.has_interval
    assert not found.shown


def test_only_shared_seeds_are_compared(row: Make) -> None:
    found = only([row(P, {0: 98.0, 1: 97.0, 5: 0.0}), row(Q, {1: 95.0, 0: 94.0, 6: 99.0})])
    assert found.seeds == (0, 1)
    assert found.differences == (4.0, 2.0)
    assert verdict(only([row(P, {0: 98.0}), row(Q, {1: 95.0})]), UP) == "no seed in common: no verdict"


def test_an_interval_that_contains_zero_shows_nothing(row: Make) -> None:
    found = only([row(P, {0: 98.0, 1: 97.0, 2: 96.0}), row(Q, {0: 97.0, 1: 97.5, 2: 96.0})])
    assert verdict(found, UP) == "no difference shown (n=3)"
    assert caution(found) == ""


def test_a_difference_is_reported_with_its_interval_and_recovery(row: Make) -> None:
    first = row(P, {0: 98.0, 1: 97.0, 2: 96.0}, recovery=40)
    found = only([first, row(Q, {0: 95.9, 1: 95.0, 2: 94.1}, recovery=20)])
    assert verdict(found, UP) == f"{P} is better by 1.75 to 2.25 points (n=3)"
    assert found.extra_recovery == 20
    assert "more recovery (40 against 20 steps)" in caution(found)
    assert "controlled/" in caution(found)


def test_with_equal_recovery_nothing_is_cautioned(row: Make) -> None:
    found = only([row(P, {0: 98.0, 1: 97.0}), row(Q, {0: 95.0, 1: 93.9})])
    assert (found.shown, caution(found), found.equal_times) == (True, "", True)


def test_less_recovery_of_the_winner_is_mentioned(row: Make) -> None:
    found = only([row(P, {0: 90.0, 1: 91.0, 2: 92.0}, recovery=40), row(Q, {0: 95.9, 1: 97.0, 2: 98.1}, recovery=20)])
    assert verdict(found, UP).startswith(f"{Q} is better by")
    assert caution(found) == "although it was given less recovery (20 against 40 steps)"


def test_lower_is_better_turns_the_sign(row: Make) -> None:
    found = only([row(P, {0: 100.0, 1: 101.0, 2: 102.0}), row(Q, {0: 120.1, 1: 121.0, 2: 121.9})], DOWN)
    assert found.differences == pytest.approx((20.1, 20.0, 19.9))
    assert found.winner.order == P
    assert verdict(found, DOWN) == f"{P} is better by 19.75 to 20.25 FID (n=3)"


def test_differences_that_do_not_vary_get_no_interval(row: Make) -> None:
    values = {0: 98.0, 1: 97.0}
    assert verdict(only([row(P, values), row(Q, values)]), UP) == "no difference: equal in each of 2 seeds"
    found = only([row(P, values), row(Q, {0: 97.0, 1: 96.0})])
    said = f"{P} is better by 1.00 points in each of 2 seeds: no spread, so no interval and no verdict"
    assert verdict(found, UP) == said
    assert not found.shown


def test_several_pairs_are_corrected_for(row: Make) -> None:
    values = {0: 98.0, 1: 97.0, 2: 96.0}
    near = {0: 97.6, 1: 96.4, 2: 95.5}  # p about 0.02, doubled by Holm
    rows = [row(P, values, signature="a"), row(Q, near, signature="a")]
    alone = only(rows)
    assert alone.shown
    assert alone.p_holm is None
    far = {0: 97.9, 1: 95.0, 2: 97.0}
    rows += [row(f"{P} 2", values, signature="b"), row(f"{Q} 2", far, signature="b")]
    first, second = order_effects(rows, UP)
    assert first.paired.p is not None
    assert first.p_holm == pytest.approx(2 * first.paired.p)
    assert first.comparisons == 2
    assert not second.shown


def test_a_difference_may_not_survive_the_correction(row: Make) -> None:
    values = {0: 98.0, 1: 97.0, 2: 96.0}
    near = {0: 97.6, 1: 96.2, 2: 95.5}
    rows = []
    for name in "abcd":
        rows += [row(f"{P} {name}", values, signature=name), row(f"{Q} {name}", near, signature=name)]
    found = order_effects(rows, UP)[0]
    assert found.verdict is Verdict.CORRECTED_AWAY
    assert not found.shown
    assert "not after Holm's correction for 4 pairs" in verdict(found, UP)


def test_only_schedules_that_differ_in_order_only_are_paired(row: Make) -> None:
    values = {0: 98.0, 1: 97.0}
    rows = [
        row(P, values, schedule="p_q"),
        row(Q, values, schedule="q_p"),
        row(Q, values, schedule="q_p_other", signature="P0.7(w), Q8(w)"),
        row(Q, values, schedule="q_p_long", total=200),
        row(P, values, schedule="controlled/p_q"),
        row(Q, values, schedule="controlled/q_p"),
        row(P, values, schedule="p_q[prune_weight.start=0.5dur]"),
    ]
    pairs = [(found.first.schedule, found.second.schedule) for found in order_effects(rows, UP)]
    assert pairs == [
        ("p_q", "q_p"),
        ("q_p", "p_q[prune_weight.start=0.5dur]"),
        ("controlled/p_q", "controlled/q_p"),
    ]
    assert family("published/detection/p_q[a/b=1]") == "published/detection"
