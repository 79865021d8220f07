from pathlib import Path

from qp_runner.tracking.color import PALETTE, PARENT, color

SCHEDULES = Path(__file__).parents[2] / "conf/schedule"


def test_the_default_sweeps_schedules_have_strong_colours_of_their_own() -> None:
    six = {color(name) for name in ("float", "q_wf", "p_q_w", "q_p_w", "p_q_wf", "q_p_wf")}
    assert len(six) == 6
    assert six <= set(PALETTE[:10])


def test_the_schedules_that_come_with_the_package_differ_in_colour() -> None:
    names = [path.stem for path in SCHEDULES.glob("*.yaml")]
    assert len({color(name) for name in names}) == len(names) > 5
    assert PARENT not in PALETTE
