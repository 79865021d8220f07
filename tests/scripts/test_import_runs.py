"""Plain files of a machine without MLflow become runs of a store."""

import runpy
import sys
from pathlib import Path

import pytest

from qp_runner.report.read import read
from qp_runner.tracking import RunFiles, RunInfo

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "import_runs.py"


def record(folder: Path, seed: int, *, ended: bool = True) -> None:
    tags = {"task": "resolution", "schedule": "float", "order": "float", "signature": "float", "seed": str(seed)}
    tags |= {"model": "net", "data": "set", "variant": "", "metric": "psnr", "metric_direction": "up", "sweep": ""}
    run = RunFiles(folder, RunInfo(f"float · seed {seed}", "resolution", tags, {"trainer.epochs": "2"}), store=None)
    for step in (5, 10):
        run.metrics({"val/psnr": 20.0 + step + seed, "val/loss": float("nan")}, step=step)
    run.text("pictures/cat.png", "not looked at here")
    if ended:
        run.metrics({"final/psnr": 31.5 + seed}, step=10)
        run.finish("FINISHED")


def call(*arguments: str) -> None:
    before, sys.argv = sys.argv, ["import_runs", *arguments]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


def test_a_store_has_what_the_files_had(tmp_path: Path) -> None:
    for seed in range(2):
        record(tmp_path / "files" / str(seed) / "deep", seed)
    record(tmp_path / "files" / "open", 7, ended=False)
    sweep = RunInfo("a sweep", "resolution", {"sweep": "there", "jobs": "3"})
    RunFiles(tmp_path / "files", sweep, store=None).finish("FINISHED")
    store = tmp_path / "mlflow.db"
    for _ in range(2):  # the second time finds everything
        call(str(tmp_path / "files"), "--store", str(store), "--sweep", "away", "--tag", "git_commit=abc")
    records = read(str(store), sweep="away")
    runs = records.runs.set_index("seed")
    assert runs["status"].to_dict() == {0: "FINISHED", 1: "FINISHED", 7: "KILLED"}
    assert runs["value"].dropna().to_dict() == {0: 31.5, 1: 32.5}
    assert set(runs["git_commit"]) == {"abc"}
    assert set(runs["epochs"]) == {"2"}
    history = records.histories([str(runs.loc[1, "run_id"])], [])
    assert list(zip(history["step"], history["value"], strict=True)) == [(5, 26.0), (10, 31.0)]
    assert list(records.pictures(str(runs.loc[0, "run_id"]))) == ["cat"]
    assert records.sweep == "away · imported"
    assert not list(tmp_path.rglob("mlflow.json"))  # the files stay as they were
    call(str(tmp_path / "files"), "--store", str(store), "--sweep", "another name")
    assert len(read(str(store), sweep="all").runs) == 6


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(str(tmp_path), "--sweep", "away")
    assert ended.value.code == 2
    assert "holds no run.json" in capsys.readouterr().err
