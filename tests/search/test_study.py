"""A study taken up again is the one it would have been, wherever it was cut off."""

import math
from pathlib import Path
from typing import Any

import pytest

from qp_runner.config import RangeSection, SearchSection
from qp_runner.errors import ConfigError
from qp_runner.search.space import Space
from qp_runner.search.study import FILE, OPTUNA_STATES, Study, _sampler
from qp_runner.search.trials import Trial

optuna = pytest.importorskip("optuna")

SPACE = Space(
    {
        "x": RangeSection(low=0.0, high=1.0, step=0.01),
        "n": RangeSection(low=1, high=9),
        "c": RangeSection(choices=[True, None, "a b", 0.5]),
    }
)
DIRECTIONS = {"metric": "maximize", "footprint": "minimize"}
BATCH = 3


def section(**values: Any) -> SearchSection:
    given = {"sampler": "tpe", "space": dict(SPACE.ranges), "startup": 4, "population": 4, **values}
    return SearchSection.model_validate(given)


def opened(folder: Path, **values: Any) -> Study:
    folder.mkdir(exist_ok=True)
    return Study(folder / FILE, section(**values), SPACE, directions=DIRECTIONS)


def running(study: Study) -> list[Trial]:
    return [trial for trial in study.trials if trial.state == "running"]


def end(study: Study, trial: Trial) -> None:
    x, n = float(trial.changes["x"]), int(trial.changes["n"])
    if n == 9:
        study.reject(trial, "9 is too many")
        return
    if trial.job is None:
        study.assign(trial, job=n, digest=str(n), order=f"Q{n}(w) → …")
    if n == 8:
        study.fail(trial, "8 fails")
    else:
        study.finish(trial, {"metric": n * (1 - (x - 0.3) ** 2), "footprint": n + x, "test": math.nan})


def go_on(study: Study, count: int) -> Study:
    """Asks in batches, and ends the trials of a batch once all are there."""
    while running(study) or len(study.trials) < count:
        if not running(study) and len(study.trials) >= study.goal:
            study.set_goal(len(study.trials) + BATCH)
        while len(study.trials) < study.goal:
            study.ask()
        for trial in running(study):
            end(study, trial)
    return study


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_study_cut_off_anywhere_goes_on_as_if_nothing_had_happened(tmp_path: Path, sampler: str) -> None:
    whole = go_on(opened(tmp_path, sampler=sampler), 12)
    assert {trial.state for trial in whole.trials} >= {"finished", "infeasible"}
    content = (tmp_path / FILE).read_bytes()
    assert repr(opened(tmp_path, sampler=sampler).trials) == repr(whole.trials)  # repr: NaN is NaN
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    for number, start in enumerate(starts):
        for cut in (start, start + 1 + number * 7 % 40):  # between lines, and within one
            (tmp_path / FILE).write_bytes(content[:cut])
            go_on(opened(tmp_path, sampler=sampler), 12)
            assert (tmp_path / FILE).read_bytes() == content


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_suggestions_are_those_of_a_study_that_optuna_keeps(tmp_path: Path, sampler: str) -> None:
    study = opened(tmp_path, sampler=sampler)
    kept = optuna.create_study(directions=list(DIRECTIONS.values()))
    for number in range(24):
        trial = study.ask()
        kept.sampler = _sampler(section(sampler=sampler), number)
        assert SPACE.texts(kept.ask(SPACE.distributions()).params) == trial.changes
        end(study, trial)
        values = [study.trials[number].figures.get(name) for name in DIRECTIONS]
        state = optuna.trial.TrialState[OPTUNA_STATES[study.trials[number].state]]
        kept.tell(number, None if None in values else values, state=state)


def test_what_is_infeasible_is_avoided_and_counts_as_nothing(tmp_path: Path) -> None:
    trials = go_on(opened(tmp_path), 40).trials
    states = {int(trial.changes["n"]): trial.state for trial in trials}
    assert {state for n, state in states.items() if n < 8} == {"finished"}
    assert states.get(9, "infeasible") == "infeasible"
    assert all(trial.reason for trial in trials if trial.state in ("infeasible", "failed"))
    assert [trial.changes["n"] for trial in trials[20:]].count("9") <= 2


def test_the_seed_decides_and_one_objective_will_do(tmp_path: Path) -> None:
    first, second, again = (
        go_on(opened(tmp_path / name, seed=seed, objectives=["metric"]), 5).trials
        for name, seed in (("a", 0), ("b", 1), ("c", 1))
    )
    assert repr(first) != repr(second)
    assert repr(second) == repr(again)


@pytest.mark.parametrize("wrong", ["no JSON\n", "{}\n", '{"trial": 7, "job": 1}\n', '{"trial": 0, "jbo": 1}\n'])
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, wrong: str) -> None:
    opened(tmp_path).ask()
    with (tmp_path / FILE).open("a") as file:
        file.write(wrong)
    with pytest.raises(ConfigError, match=FILE):
        opened(tmp_path)
