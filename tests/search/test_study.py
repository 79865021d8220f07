"""A study taken up again is the one it would have been, wherever it was cut off."""

from pathlib import Path
from typing import Any

import pytest

from qp_runner.config import RangeSection, SearchSection
from qp_runner.search.space import Space
from qp_runner.search.study import Studies, Study
from qp_runner.search.trials import Trial

optuna = pytest.importorskip("optuna")

SPACE = Space({"x": RangeSection(low=0.0, high=1.0, step=0.01), "n": RangeSection(low=1, high=9)})
DIRECTIONS = {"metric": "maximize", "footprint": "minimize"}


def section(**values: Any) -> SearchSection:
    return SearchSection.model_validate({"sampler": "tpe", "space": dict(SPACE.ranges), **values})


def studies(folder: Path, digest: str = "a") -> Studies:
    return Studies(folder / "search.db", digest)


def opened(folder: Path, **values: Any) -> Study:
    return studies(folder).open(section(startup=4, population=4, **values), SPACE, directions=DIRECTIONS)


def tell(study: Study, trial: Trial) -> None:
    x, n = float(trial.changes["x"]), int(trial.changes["n"])
    if n == 9:
        study.tell_infeasible(trial, "9 is too many")
    elif n == 8:
        study.tell_failed(trial, "8 fails", folder=Path("8"))
    else:
        figures = {"metric": n * (1 - (x - 0.3) ** 2), "footprint": n + x, "test": 0.0, "steps": 1.0, "computed": 1.0}
        study.tell(trial, figures, folder=Path(str(n)))


def go_on(study: Study, count: int) -> None:
    """Tells what is left running, then asks and tells."""
    for trial in study.trials():
        if trial.state == "running":
            tell(study, trial)
    while len(study.trials()) < count:
        tell(study, study.ask())


def found(study: Study) -> list[tuple[dict[str, str], str, dict[str, float]]]:
    return [(dict(trial.changes), trial.state, dict(trial.figures)) for trial in study.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_study_cut_off_at_any_write_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    go_on(opened(tmp_path / "whole", sampler=sampler), 16)
    storage = optuna.storages.RDBStorage
    plain = storage._set_trial_param, storage.set_trial_user_attr, storage.set_trial_state_values
    left = [0]

    def counted(call: Any) -> Any:
        def count(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return call(*arguments, **options)

        return count

    for call in plain:
        monkeypatch.setattr(storage, call.__name__, counted(call))
    cut = 0
    while True:
        left[0] = 7 + cut % 5
        try:
            go_on(opened(tmp_path, sampler=sampler), 16)
        except KeyboardInterrupt:
            cut += 1
        else:
            break
    assert cut >= 4
    states = [
        each.state.name for each in optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/search.db").trials
    ]
    assert len(states) > 16  # some were cut off between their values
    assert found(opened(tmp_path, sampler=sampler)) == found(opened(tmp_path / "whole", sampler=sampler))


def test_the_seed_decides(tmp_path: Path) -> None:
    for seed in (0, 1):
        go_on(studies(tmp_path, str(seed)).open(section(seed=seed), SPACE, directions=DIRECTIONS), 5)
    first, second = (
        found(studies(tmp_path, str(seed)).open(section(seed=seed), SPACE, directions=DIRECTIONS)) for seed in (0, 1)
    )
    assert first != second
    go_on(studies(tmp_path, "again").open(section(seed=1), SPACE, directions=DIRECTIONS), 5)
    assert found(studies(tmp_path, "again").open(section(seed=1), SPACE, directions=DIRECTIONS)) == second


def test_what_is_infeasible_is_avoided_and_counts_as_nothing(tmp_path: Path) -> None:
    study = opened(tmp_path)
    go_on(study, 40)
    trials = study.trials()
    states = {int(trial.changes["n"]): trial.state for trial in trials}
    assert {state for n, state in states.items() if n < 8} == {"finished"}
    assert states.get(9, "infeasible") == "infeasible"
    assert all(trial.reason for trial in trials if trial.state in ("infeasible", "failed"))
    late = [int(trial.changes["n"]) for trial in trials[20:]]
    assert late.count(9) <= 2


def test_another_digest_and_another_attempt_are_other_studies(tmp_path: Path) -> None:
    first = studies(tmp_path).open(section(), SPACE, directions=DIRECTIONS)
    first.ask()
    assert len(studies(tmp_path).open(section(), SPACE, directions=DIRECTIONS).trials()) == 1
    assert not studies(tmp_path, "b").open(section(), SPACE, directions=DIRECTIONS).trials()
    fresh = studies(tmp_path).open(section(), SPACE, directions=DIRECTIONS, fresh=True)
    assert not fresh.trials()
    assert studies(tmp_path).names() == [first.name, fresh.name]
    assert studies(tmp_path).open(section(), SPACE, directions=DIRECTIONS).name == fresh.name


def test_one_objective_will_do(tmp_path: Path) -> None:
    study = studies(tmp_path).open(section(objectives=["metric"]), SPACE, directions=DIRECTIONS)
    go_on(study, 5)
    assert "finished" in {trial.state for trial in study.trials()}
