from collections.abc import Callable
from typing import Any

import pytest

from qp_runner.metric import Metric
from qp_runner.report.effect import Effect, family, order_effects
from qp_runner.report.rows import Row
from qp_runner.report.verdict import caution, headline, verdict

UP, DOWN = Metric("accuracy", True, "%"), Metric("FID", False, "")
P, Q, BOTH = "P0.5(w) → Q8(w)", "Q8(w) → P0.5(w)", "P0.5(w) + Q8(w)"
GOOD, BAD = {0: 98.0, 1: 97.0, 2: 96.1}, {0: 95.0, 1: 94.1, 2: 93.0}
Make = Callable[..., Row]


def only(rows: list[Row], metric: Metric = UP) -> Effect:
    (found,) = order_effects(rows, metric)
    return found


@pytest.mark.parametrize(
    ("pruning_first", "quantizing_first", "said"),
    [
        ({0: 98.0}, {0: 90.0}, "one seed: no verdict"),
        ({0: 98.0}, {1: 95.0}, "no seed in common: no verdict"),
        ({0: 98.0, 1: 97.0, 2: 96.0}, {0: 97.0, 1: 97.5, 2: 96.0}, "no difference shown (n=3)"),
        ({0: 98.0, 1: 97.0}, {0: 98.0, 1: 97.0}, "no difference: equal in each of 2 seeds"),
        (
            {0: 98.0, 1: 97.0},
            {0: 97.0, 1: 96.0},
            f"{P} is better by 1.00 points in each of 2 seeds: no spread, so no interval and no verdict",
        ),
    ],
)
def test_without_an_interval_that_excludes_zero_there_is_no_verdict(
    row: Make, pruning_first: dict[int, float], quantizing_first: dict[int, float], said: str
) -> None:
    found = only([row(P, pruning_first, recovery=40), row(Q, quantizing_first)])
    assert (verdict(found), caution(found), found.shown) == (said, "", False)


def test_only_shared_seeds_are_compared(row: Make) -> None:
    found = only([row(P, {0: 98.0, 1: 97.0, 5: 0.0}), row(Q, {1: 95.0, 0: 94.0, 6: 99.0})])
    assert found.differences == (4.0, 2.0)


@pytest.mark.parametrize(
    ("recovery", "warning"),
    [
        (40, "it was also given more recovery (40 against 30 steps) and may win for that reason; the controlled/ "),
        (30, ""),
        (20, "although it was given less recovery (20 against 30 steps)"),
    ],
)
def test_a_difference_is_reported_with_its_interval_and_recovery(row: Make, recovery: float, warning: str) -> None:
    better = row(P, {0: 98.0, 1: 97.0, 2: 96.0}, recovery=recovery)
    found = only([better, row(Q, {0: 95.9, 1: 95.0, 2: 94.1})])
    assert verdict(found) == f"{P} is better by 1.75 to 2.25 points (n=3)"
    assert (found.shown, found.equal_times) == (True, recovery == 30)
    assert caution(found).startswith(warning)
    assert bool(caution(found)) == bool(warning)


def test_lower_is_better_turns_the_sign(row: Make) -> None:
    found = only([row(P, {0: 100.0, 1: 101.0, 2: 102.0}), row(Q, {0: 120.1, 1: 121.0, 2: 121.9})], DOWN)
    assert found.differences == pytest.approx((20.1, 20.0, 19.9))
    assert verdict(found) == f"{P} is better by 19.75 to 20.25 FID (n=3)"


def test_several_pairs_are_corrected_for_and_a_difference_may_not_survive_it(row: Make) -> None:
    values, near = {0: 98.0, 1: 97.0, 2: 96.0}, {0: 97.6, 1: 96.2, 2: 95.5}  # p about 0.02
    rows = [row(P, values, signature="a"), row(Q, near, signature="a")]
    alone = only(rows)
    assert (alone.shown, alone.p_holm) == (True, None)
    for name in "bcd":
        rows += [row(P, values, signature=name), row(Q, {0: 97.9, 1: 95.0, 2: 97.0}, signature=name)]
    found = order_effects(rows, UP)
    assert found[0].p_holm == pytest.approx(4 * (alone.paired.p or 0))
    assert not any(effect.shown for effect in found)
    assert "not after Holm's correction for 4 pairs" in verdict(found[0])


def test_only_schedules_that_differ_in_order_only_are_paired_and_pruning_first_stands_first(row: Make) -> None:
    values = {0: 98.0, 1: 97.0}
    rows = [
        row(P, values, schedule="p_q"),
        row(Q, values, schedule="q_p"),
        row(Q, values, schedule="q_p_other", signature="P0.7(w), Q8(w)"),
        row(Q, values, schedule="q_p_long", total=200),
        row(Q, values, schedule="controlled/q_p"),
        row(BOTH, values, schedule="controlled/pq"),
        row(P, values, schedule="controlled/p_q"),
        row(P, values, schedule="p_q[prune_weight.start=0.5dur]"),
    ]
    pairs = {(found.first.schedule, found.second.schedule) for found in order_effects(rows, UP)}
    assert pairs == {
        ("p_q", "q_p"),
        ("p_q[prune_weight.start=0.5dur]", "q_p"),
        ("controlled/p_q", "controlled/q_p"),
        ("controlled/p_q", "controlled/pq"),
        ("controlled/pq", "controlled/q_p"),
    }
    assert family("published/detection/p_q[a/b=1]") == "published/detection"


def answer(*rows: Row) -> str:
    found = headline(order_effects(rows, UP))
    assert all(line.endswith(".") for line in found.because)
    return found.answer


def test_the_answer_is_no_stronger_than_the_runs_allow(row: Make) -> None:
    assert answer(row(P, GOOD)) == "No answer here."
    assert answer(row(P, {0: 98.0}), row(Q, {0: 90.0})) == "One seed: no verdict."
    assert answer(row(P, GOOD), row(Q, {0: 98.1, 1: 96.8, 2: 96.2})) == "No difference shown."
    assert answer(row(P, GOOD), row(Q, BAD)) == "Prune first, then quantize."
    assert answer(row(P, BAD), row(Q, GOOD)) == "Quantize first, then prune."
    assert answer(row(P, GOOD, recovery=50), row(Q, BAD)) == "Pruning first did better."
    assert answer(row(P, BAD), row(BOTH, GOOD)) == f"{BOTH} did better."
    mixed = {"a": (GOOD, BAD), "b": (BAD, GOOD)}
    rows = [row(P, pruning, signature=name) for name, (pruning, _) in mixed.items()]
    rows += [row(Q, quantizing, signature=name) for name, (_, quantizing) in mixed.items()]
    assert answer(*rows) == "It depends."


EQUAL = "but with equal recovery and first event no difference is shown."


@pytest.mark.parametrize(
    ("confounded", "controlled", "expected"),
    [
        ({P: (GOOD, 50), Q: (BAD, 30)}, (BAD, GOOD), "Quantize first, then prune."),
        ({P: (GOOD, 50), Q: (BAD, 30)}, (GOOD, GOOD), f"Pruning first did better, {EQUAL}"),
        ({P: (BAD, 30), Q: (GOOD, 50)}, (GOOD, GOOD), f"Quantizing first did better, {EQUAL}"),
        ({P: (GOOD, 30), Q: (BAD, 50)}, (GOOD, GOOD), f"Pruning first did better, {EQUAL}"),
    ],
)
def test_a_pair_with_equal_recovery_decides_over_one_without(
    row: Make, confounded: dict[str, Any], controlled: tuple[dict[int, float], dict[int, float]], expected: str
) -> None:
    rows = [row(order, values, recovery=steps) for order, (values, steps) in confounded.items()]
    rows += [row(order, each, schedule=f"controlled/{order}") for order, each in zip((P, Q), controlled, strict=True)]
    assert answer(*rows) == expected
