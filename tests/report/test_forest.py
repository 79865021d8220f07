from itertools import product
from pathlib import Path

import pytest
from run_tables import floats, grid, pair, sections_of

from qp_runner.report.forest import forest, pruned, sentences
from qp_runner.report.plots.forest import draw_forest, drawn, forest_plot, height
from qp_runner.report.plots.style import save_png
from qp_runner.report.stats import holm

FLOAT = [98.0, 99.0, 100.0]  # a standard deviation of 1 point
CLEAR = [(95.0, 92.0), (94.0, 91.1), (96.0, 92.9)]
NOTHING = [(95.0, 94.0), (94.0, 95.0), (96.0, 96.1)]
QUANTIZE = [(second, first) for first, second in CLEAR]


def both(published: list[tuple[float, float]], controlled: list[tuple[float, float]], **more: object) -> list[dict]:
    return [*floats(FLOAT, **more), *pair(published, **more), *pair(controlled, folder="controlled/", **more)]


def test_a_row_for_each_task_family_and_target_in_units_of_floats_spread() -> None:
    rows = forest(sections_of(both(CLEAR, NOTHING) + both(QUANTIZE, NOTHING, task="detection")))
    places = product(("classification", "detection"), ("published", "controlled"))
    assert [(row.section.task, row.family) for row in rows] == list(places)
    assert {row.target for row in rows} == {"w,f"}
    assert rows[0].unit == pytest.approx(1.0)
    assert rows[0].mean == pytest.approx(3.0, abs=0.05)
    assert rows[2].mean == pytest.approx(-3.0, abs=0.05)
    assert [row.shown for row in rows] == [True, False, True, False]


def test_p_values_are_adjusted_for_the_rows_of_all_tasks_together() -> None:
    rows = forest(sections_of(both(CLEAR, NOTHING) + both(QUANTIZE, NOTHING, task="detection")))
    ps = [row.effect.paired.p for row in rows]
    assert [row.p_holm for row in rows] == pytest.approx(holm([p for p in ps if p is not None]))
    assert {row.comparisons for row in rows} == {4}


def test_lower_is_better_turns_the_side() -> None:
    down = {"metric": "fid", "metric_direction": "down", "metric_unit": ""}
    [row, _] = forest(sections_of(both(CLEAR, NOTHING, **down)))
    assert row.mean == pytest.approx(-3.0, abs=0.05)
    assert "quantizing first is better for w,f at published times" in sentences([row])[0]


def test_without_a_spread_of_float_there_is_a_row_but_no_place_on_the_axis() -> None:
    rows = forest(sections_of([*floats([98.0]), *pair(CLEAR)]))
    assert [row.mean for row in rows] == [None]
    assert drawn(rows) == []
    assert "pruning first is better" in sentences(rows)[0]


def test_pairs_at_several_sparsities_and_bits_have_a_map_and_no_row() -> None:
    assert forest(sections_of(floats(FLOAT) + grid({(0.5, 8): 1.0, (0.9, 8): 2.0}, {}))) == []


def test_ways_of_training_are_named_where_they_alone_differ() -> None:
    rows = forest(sections_of(both(CLEAR, NOTHING) + both(CLEAR, NOTHING, variant="by channel")))
    usual, other = sentences(rows)
    assert usual.startswith("classification (net on set, default): ")
    assert other.startswith("classification (net on set, by channel): ")


def test_a_sentence_a_task_says_no_more_than_its_seeds_allow() -> None:
    rows = forest(sections_of(both(CLEAR, NOTHING) + both(CLEAR[:1], NOTHING[:1], task="detection")))
    several, one = sentences(rows)
    assert several.startswith("classification (net on set): pruning first is better for w,f at published times, by 2.")
    assert several.endswith("no difference shown, n=3, for w,f at controlled times (−2.52 to +2.45 points).")
    assert one == "detection (net on set): one seed, no verdict."


def test_more_recovery_of_the_better_side_is_said() -> None:
    runs = both(CLEAR, NOTHING)
    for each in runs:
        if str(each["schedule"]).startswith("p_q"):
            each["recovery_steps"] = 50.0
    assert "after Holm), with more recovery;" in sentences(forest(sections_of(runs)))[0]


@pytest.mark.parametrize(
    ("signature", "targets"),
    [("P0.5(w), Q8(w,f)", "w"), ("P0.5(w,f), Q8(w,f)", "w,f"), ("P0.5(w), P0.3(f), Q8(w)", "w,f"), ("Q8(w,f)", "")],
)
def test_what_is_pruned_is_read_from_the_changes(signature: str, targets: str) -> None:
    assert pruned(signature) == targets


def test_the_picture_names_every_row_for_a_screen_and_a_phone(tmp_path: Path) -> None:
    rows = forest(sections_of(both(CLEAR, NOTHING) + both(QUANTIZE, [(1.0, 90.0)], task="detection")))
    for width in (940, 390):
        text = forest_plot(rows, width=width, name="f")
        assert text.count("w,f published") == 2
        assert text.count("n=3") == 3
        assert text.count("n=1") == 1
    with save_png(tmp_path / "forest.png", 940, height(rows, width=940)) as figure:
        draw_forest(figure, rows)
    assert (tmp_path / "forest.png").read_bytes()[:4] == b"\x89PNG"
