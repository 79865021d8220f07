"""The trials of a search become a study in a storage of optuna's."""

import runpy
import sys
from pathlib import Path

import pytest

from qp_runner.config import RangeSection, SearchSection
from qp_runner.search.space import Space
from qp_runner.search.study import FILE, Study

optuna = pytest.importorskip("optuna")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "export_study.py"


def test_a_storage_has_what_the_file_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"x": RangeSection(low=0.0, high=0.5, step=0.1, unit="dur"), "c": RangeSection(choices=[None, "a"])}
    section = SearchSection(sampler="nsga2", space=dict(space))
    directions = {"metric": "maximize", "footprint": "minimize"}
    (tmp_path / "mine").mkdir()
    study = Study(tmp_path / "mine" / FILE, section, Space(space), directions=directions)
    study.finish(study.ask(), {"metric": 90.0, "footprint": 2.5})
    study.reject(study.ask(), "too late")
    study.fail(study.ask(), "diverged")
    with (tmp_path / "mine" / FILE).open("a") as file:
        file.write('{"trial": 3')  # it is being written
    before, storage = (tmp_path / "mine" / FILE).read_bytes(), f"sqlite:///{tmp_path}/study.db"
    monkeypatch.setattr(sys, "argv", ["export_study", str(tmp_path / "mine"), "--storage", storage])
    for _ in range(2):  # the second export replaces the first
        runpy.run_path(str(SCRIPT), run_name="__main__")
        found = optuna.load_study(study_name="mine", storage=storage)
        assert [each.name for each in found.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert [each.state.name for each in found.trials] == ["COMPLETE", "PRUNED", "FAIL"]
        assert [each.user_attrs["changes"] for each in found.trials] == [trial.changes for trial in study.trials]
        assert [Space(space).texts(each.params) for each in found.trials] == [trial.changes for trial in study.trials]
        assert found.trials[0].values == [90.0, 2.5]
        assert found.trials[1].user_attrs["reason"] == "too late"
    assert (tmp_path / "mine" / FILE).read_bytes() == before


def test_a_folder_without_a_search_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["export_study", str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert f"holds no {FILE}" in capsys.readouterr().err
