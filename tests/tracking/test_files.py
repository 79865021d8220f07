import csv
import math
from datetime import datetime
from pathlib import Path

import pytest

from qp_runner.errors import ConfigError
from qp_runner.locking import RUNNING, is_locked
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.records import Record, artifact_files, read_rows
from stores import load, start

INFO = RunInfo("p_q_wf · seed 0", "classification", {"order": "P0.5(w) → Q8(w,f)", "variant": ""}, {"seed": "0"})


def rows(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_what_was_recorded_is_read_back_exactly(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.metrics({"train/loss": 1 / 3, 'odd, "name"': 1e-300}, step=10)
    run.metrics({"train/loss": 0.1, "a": math.inf, "b": -math.inf, "c": math.nan}, step=20)
    run.text("config.yaml", "seed: 0  # Größe\n")
    run.finish("FINISHED")
    found = rows(tmp_path)
    assert found[:3] == [(10, "train/loss", 1 / 3), (10, 'odd, "name"', 1e-300), (20, "train/loss", 0.1)]
    assert found[3:5] == [(20, "a", math.inf), (20, "b", -math.inf)]
    assert math.isnan(found[5][2])
    assert (tmp_path / "artifacts/config.yaml").read_text(encoding="utf-8") == "seed: 0  # Größe\n"
    known = load(tmp_path)
    assert (known.name, known.experiment, known.params) == (INFO.name, INFO.experiment, INFO.params)
    assert known.tags.items() >= INFO.tags.items()
    assert "version.torch" in known.tags
    assert (known.status, known.error) == ("FINISHED", None)
    assert datetime.fromisoformat(known.start_time) <= datetime.fromisoformat(known.end_time or "")


def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from qp_runner.tracking import RunFiles, RunInfo\n"
        "run = RunFiles(Path(sys.argv[1]), RunInfo('run', 'classification'), store=None)\n"
        "for step in range(100): run.metrics({'train/loss': step / 7}, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    start(code, str(tmp_path)).communicate()
    assert rows(tmp_path) == [(step, "train/loss", step / 7) for step in range(100)]
    assert load(tmp_path).status == "RUNNING"


def test_a_second_finish_changes_nothing(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.finish("FAILED", "ValueError: no")
    before = (tmp_path / "run.json").read_bytes()
    run.finish("FINISHED")
    assert (tmp_path / "run.json").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_only_files_outside_the_artifacts_are_listed(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.text("config.yaml", "seed: 0\n")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    for _ in range(2):
        run.artifact("model.safetensors")
    run.finish("FINISHED")
    known = load(tmp_path)
    assert known.files == ["model.safetensors"]
    assert [name for _, name in artifact_files(tmp_path, known)] == ["config.yaml", "model.safetensors"]


@pytest.mark.parametrize("go_on", [False, True])
def test_a_second_run_in_a_folder_replaces_the_first_or_goes_on_with_it(tmp_path: Path, go_on: bool) -> None:
    known = []
    for name, store in (("first", "default"), ("second", "other")):
        run = RunFiles(tmp_path, RunInfo(name, "classification"), store=store, go_on=go_on)
        assert load(tmp_path).status == "RUNNING"
        for _ in range(50):
            run.metrics({"a": 0.0}, step=0)
        run.text(f"{name}.txt", "")
        run.finish("KILLED", "interrupted")
        known.append(load(tmp_path))
    first, second = known
    assert (second.id == first.id, second.name) == ((True, "first") if go_on else (False, "second"))
    assert second.start_time == first.start_time or not go_on
    assert second.store == "other"
    assert len({path.name for path in (tmp_path / "artifacts").iterdir()}) == (2 if go_on else 1)
    times = [row.time_ms for row in read_rows(tmp_path)[0]]
    assert len(times) == (100 if go_on else 50)
    assert times == sorted(set(times))  # each call is later than the one before


@pytest.mark.parametrize("cut", ["10,train/loss,0.2", "10,", "1", '10,"train'])
def test_a_last_row_that_was_cut_off_is_passed_over_and_removed_by_a_record_that_goes_on(
    tmp_path: Path, cut: str
) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.metrics({"train/loss": 0.5}, step=9)
    run.finish("KILLED")
    whole = (tmp_path / "metrics.csv").stat().st_size
    with (tmp_path / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write(cut)
    found, end = read_rows(tmp_path)
    assert [(row.step, row.value) for row in found] == [(9, 0.5)]
    assert (end, read_rows(tmp_path, end)) == (whole, ([], whole))
    run = RunFiles(tmp_path, INFO, store=None, go_on=True)
    run.metrics({"train/loss": 0.25}, step=10)
    run.finish("FINISHED")
    assert rows(tmp_path) == [(9, "train/loss", 0.5), (10, "train/loss", 0.25)]
    assert [row.step for row in read_rows(tmp_path, end)[0]] == [10]


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qp_runner.tracking.files.LOCK_WAIT_S", 0.0)
    run = RunFiles(tmp_path, INFO, store=None)
    assert is_locked(tmp_path / RUNNING)
    with pytest.raises(ConfigError, match=r"^hydra\.run\.dir=.*no other process is at work"):
        RunFiles(tmp_path, INFO, store=None)
    run.finish("FINISHED")
    assert not is_locked(tmp_path / RUNNING)
    RunFiles(tmp_path, INFO, store=None).finish("FINISHED")


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"name": 1}'])
def test_another_programs_run_json_is_no_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    assert Record.load(tmp_path) is None
