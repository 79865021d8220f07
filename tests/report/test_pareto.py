import math

from qp_runner.report.pareto import front


def test_the_front_is_what_no_other_point_beats() -> None:
    points = {
        (1.0, 5.0): True,  # cheapest
        (2.0, 5.0): False,  # as good, dearer
        (2.0, 7.0): True,
        (2.0, 6.0): False,  # as dear, worse
        (3.0, 4.0): False,
        (4.0, 9.0): True,  # best
        (math.nan, 10.0): False,
        (0.5, math.nan): False,
        (-math.inf, 10.0): False,
    }
    assert front(list(points)) == list(points.values())
    assert front([(1.0, 9.0), (1.0, 9.0), (2.0, 9.0)]) == [True, True, False]  # equal points stand together
    assert front([]) == []
