from pathlib import Path

import pytest
from run_tables import floats, grid, pair, sections_of

from qp_runner.report.phase import phase, prediction
from qp_runner.report.plots.phase import draw_phase, phase_plot
from qp_runner.report.plots.style import save_png

# pruning half costs 1, nine tenths 20; 8 bits cost 0, 2 bits 10
COSTS = {(0.0, 32): 0.0, (0.5, 32): 1.0, (0.9, 32): 20.0, (0.0, 8): 0.0, (0.0, 2): 10.0}
EFFECTS = {(0.5, 8): -1.0, (0.5, 2): 5.0, (0.9, 8): 30.0, (0.9, 2): -4.0}


def test_a_cell_has_its_effect_and_what_each_method_alone_costs() -> None:
    [section] = sections_of(grid(EFFECTS, COSTS))
    found = phase(section)
    assert found is not None
    assert (found.sparsities, found.bits) == ([0.5, 0.9], [8, 2])
    cells = {(cell.sparsity, cell.bits): cell for cell in found.cells}
    assert {place: cell.effect.paired.mean for place, cell in cells.items()} == pytest.approx(EFFECTS)
    assert {place: cell.lead for place, cell in cells.items()} == pytest.approx(
        {(0.5, 8): -1.0, (0.5, 2): 9.0, (0.9, 8): -20.0, (0.9, 2): -10.0}
    )
    assert [cells[place].right for place in EFFECTS] == [True, True, False, True]
    assert len(section.effects) == 4  # runs that only prune or only quantize are no orders


def test_the_rule_is_counted_beside_its_opposite_and_always_pruning_first() -> None:
    [section] = sections_of(grid(EFFECTS, COSTS))
    found = phase(section)
    assert found is not None
    said = prediction(found)
    assert said.startswith(
        "Of 4 cells the rule “the weaker method first” is right in 3, its opposite in 1, “always prune"
    )
    assert "Of the 4 whose interval excludes 0" in said


def test_without_runs_of_each_method_alone_there_is_no_prediction() -> None:
    [section] = sections_of(grid(EFFECTS, {}))
    found = phase(section)
    assert found is not None
    assert {cell.right for cell in found.cells} == {None}
    assert "no prediction" in prediction(found)


@pytest.mark.parametrize("cells", [[(0.5, 8)], [(0.5, 8), (0.9, 8)], [(0.5, 8), (0.5, 2)]])
def test_less_than_two_sparsities_and_bit_widths_make_no_map(cells: list[tuple[float, int]]) -> None:
    [section] = sections_of([*floats([90.0] * 3), *grid(dict.fromkeys(cells, 1.0), {})])
    assert phase(section) is None


def test_families_side_by_side_make_no_map() -> None:
    runs = grid(EFFECTS, COSTS) + pair([(1.0, 2.0)] * 3, folder="controlled/", sparsity=0.5, bits=8)
    assert phase(sections_of(runs)[0]) is None


def test_the_picture_marks_what_excludes_zero_and_what_the_rule_gets_wrong(tmp_path: Path) -> None:
    found = phase(sections_of(grid(EFFECTS, COSTS))[0])
    assert found is not None
    for width in (940, 390):
        text = phase_plot(found, width=width, name="m")
        assert text.count("+30.00 *") == 1
        assert text.count("−20.00 ✗") == 1
        assert text.count("✗") == 2  # one cell, and what the mark means
    with save_png(tmp_path / "phase.png", 940, 330) as figure:
        draw_phase(figure, found)
    assert (tmp_path / "phase.png").stat().st_size > 10_000
