import math

from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.report.pareto import front

coordinate = st.one_of(st.integers(0, 5).map(float), st.just(math.nan))


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@settings(max_examples=200)
@given(st.lists(st.tuples(coordinate, coordinate), max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[float, float]]) -> None:
    known = [point for point in points if all(map(math.isfinite, point))]
    slow = [point in known and not any(beats(other, point) for other in known) for point in points]
    assert front(points) == slow


def test_equal_points_are_on_the_front_together() -> None:
    assert front([(1.0, 9.0), (1.0, 9.0), (2.0, 9.0)]) == [True, True, False]
