"""What the front covers, against a slow reference; the table; the picture."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qp_runner.metric import Metric
from qp_runner.search.plot import save_trial_plot
from qp_runner.search.table import show_search
from qp_runner.search.trials import Trial, firsts, hypervolume, trial_table

ACCURACY, FID = Metric("accuracy", True, "%"), Metric("fid", False, "")
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


def trials(points: list[tuple[int, int]]) -> list[Trial]:
    """(footprint, metric)."""
    return [
        Trial(n, "finished", {"x": str(n)}, job=n, figures={"footprint": float(size), "metric": float(value)})
        for n, (size, value) in enumerate(points)
    ]


@given(POINTS, st.sampled_from([ACCURACY, FID]))
def test_the_hypervolume_is_the_share_of_cells_dominated(points: list[tuple[int, int]], metric: Metric) -> None:
    sizes, values = zip(*points, strict=True)
    cells = [
        (x, y) for x in range(min(sizes), max(sizes)) for y in range(min(values), max(values))
    ]  # unit cells of the box, named by their lower corner

    def dominated(x: int, y: int) -> bool:
        if metric.higher_is_better:
            return any(size <= x and value >= y + 1 for size, value in points)
        return any(size <= x and value <= y for size, value in points)

    covered = hypervolume(trials(points), metric)
    if cells:
        assert covered == pytest.approx(sum(dominated(*cell) for cell in cells) / len(cells))
    else:
        assert math.isnan(covered)


MIXED = [
    *trials([(3, 90), (1, 80), (2, 70)]),
    Trial(3, "infeasible", {"x": "3"}, reason="end after start"),
    Trial(4, "failed", {"x": "4"}, job=4, reason="diverged"),
    Trial(5, "finished", {"x": "0"}, job=0, figures={"footprint": 3.0, "metric": 90.0}),
]


def test_trials_without_figures_are_in_the_table_and_not_on_the_front() -> None:
    table = trial_table(MIXED, ACCURACY)
    assert list(table["on_front"]) == [True, True, False, False, False, True]
    assert list(table["reason"]) == ["", "", "", "end after start", "diverged", ""]
    assert [trial.number for trial in firsts(MIXED)] == [0, 1, 2, 4]


def test_the_front_is_printed_with_what_came_of_the_rest() -> None:
    console = Console(record=True, width=80)
    show_search(console, MIXED, metric=ACCURACY, reference={"metric": 95.0, "test": 94.0, "footprint": 9.0})
    text = console.export_text()
    assert "float: 95.00 % at 9.00 Mb (test 94.00 %)" in text
    assert "4 runs in 6 trials (1 failed, 1 infeasible, 1 repeated, not trained again)" in text
    assert "infeasible, trial 3: end after start" in text


@pytest.mark.parametrize("points", [[(1, 2)], [(1, 2), (1, 2)], [(1, 2), (2, 3), (2, 1), (30, 9)]])
def test_the_picture_is_drawn_for_any_front(points: list[tuple[int, int]], tmp_path: Path) -> None:
    path = tmp_path / "search.png"
    for reference in (None, {"metric": 5.0, "footprint": 9.0}):
        save_trial_plot(path, trials(points), metric=ACCURACY, reference=reference, title="some trials")
        assert path.stat().st_size > 1000
