import csv
import json
import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import qp_runner
from qp_runner.errors import ConfigError
from qp_runner.locking import RUNNING, is_locked
from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.records import Record, artifact_files, read_rows

INFO = RunInfo("p_q_wf · seed 0", "classification", {"order": "P0.5(w) → Q8(w,f)", "variant": ""}, {"seed": "0"})


def rows(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def load(folder: Path) -> Record:
    known = Record.load(folder)
    assert known is not None
    return known


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_what_was_recorded_is_read_back_exactly(tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "run", INFO, store=None)
    run.metrics({"train/loss": 1 / 3, 'odd, "name"': 1e-300}, step=10)
    run.metrics({"train/loss": 0.1}, step=20)
    run.text("config.yaml", "seed: 0  # Größe\n")
    run.finish("FINISHED")
    assert rows(tmp_path / "run") == [(10, "train/loss", 1 / 3), (10, 'odd, "name"', 1e-300), (20, "train/loss", 0.1)]
    assert (tmp_path / "run/artifacts/config.yaml").read_text(encoding="utf-8") == "seed: 0  # Größe\n"
    known = record(tmp_path / "run")
    assert (known["name"], known["experiment"], known["params"]) == (INFO.name, INFO.experiment, INFO.params)
    assert known["tags"].items() >= INFO.tags.items()  # type: ignore[attr-defined]
    assert "version.torch" in known["tags"]  # type: ignore[operator]
    assert (known["status"], known["error"]) == ("FINISHED", None)
    start, end = (datetime.fromisoformat(str(known[name])) for name in ("start_time", "end_time"))
    assert start <= end


def test_values_that_are_no_finite_number_are_kept(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.metrics({"a": math.nan, "b": math.inf, "c": -math.inf}, step=0)
    run.finish("FINISHED")
    values = {name: value for _, name, value in rows(tmp_path)}
    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (math.inf, -math.inf)


def test_records_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    assert record(tmp_path)["status"] == "RUNNING"
    run.metrics({"train/loss": 0.5}, step=1)
    assert rows(tmp_path) == [(1, "train/loss", 0.5)]
    run.finish("KILLED", "interrupted")
    assert (record(tmp_path)["status"], record(tmp_path)["error"]) == ("KILLED", "interrupted")


def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from qp_runner.tracking import RunFiles, RunInfo\n"
        "run = RunFiles(Path(sys.argv[1]), RunInfo('run', 'classification'), store=None)\n"
        "for step in range(100): run.metrics({'train/loss': step / 7}, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(qp_runner.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=root)
    assert rows(tmp_path) == [(step, "train/loss", step / 7) for step in range(100)]
    assert record(tmp_path)["status"] == "RUNNING"


def test_a_second_finish_changes_nothing(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    run.finish("FAILED", "ValueError: no")
    before = (tmp_path / "run.json").read_bytes()
    run.finish("FINISHED")
    run.flush()
    assert (tmp_path / "run.json").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_a_new_run_in_the_same_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for loss in (0.5, 0.25):
        run = RunFiles(tmp_path, INFO, store=None)
        run.metrics({"train/loss": loss}, step=1)
        run.text(f"{loss}.txt", "")
        run.finish("FINISHED")
    assert rows(tmp_path) == [(1, "train/loss", 0.25)]
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["0.25.txt"]


def test_files_and_folders_are_copied_in(tmp_path: Path) -> None:
    (tmp_path / "plots/deep").mkdir(parents=True)
    (tmp_path / "plots/deep/a.png").write_bytes(b"a")
    run = RunFiles(tmp_path / "run", INFO, store=None)
    run.artifact(tmp_path / "plots")
    run.artifact(tmp_path / "plots/deep/a.png", "more")
    run.finish("FINISHED")
    kept = {str(path.relative_to(tmp_path / "run/artifacts")) for path in (tmp_path / "run/artifacts").rglob("*.png")}
    assert kept == {"plots/deep/a.png", "more/a.png"}


@pytest.mark.parametrize("name", ["model.pt", "artifacts/model.pt"])
def test_a_file_in_the_runs_own_folder_stays_the_only_one(tmp_path: Path, name: str) -> None:
    run = RunFiles(tmp_path, INFO, store=None)
    (tmp_path / name).write_bytes(b"weights")
    run.artifact(tmp_path / name)
    run.finish("FINISHED")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("model.pt")] == [name]
    assert (tmp_path / name).read_bytes() == b"weights"


def test_only_files_outside_the_artifacts_are_listed(tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "run", INFO, store=None)
    run.text("config.yaml", "seed: 0\n")
    (tmp_path / "run/model.pt").write_bytes(b"weights")
    for _ in range(2):
        run.artifact(tmp_path / "run/model.pt")
    run.artifact(tmp_path / "run/artifacts/config.yaml")
    run.finish("FINISHED")
    known = load(tmp_path / "run")
    assert known.files == ["model.pt"]
    assert [name for _, name in artifact_files(tmp_path / "run", known)] == ["config.yaml", "model.pt"]


def test_each_attempt_has_its_own_id_and_a_record_that_goes_on_keeps_its(tmp_path: Path) -> None:
    ids = []
    for go_on in (False, False, True):
        run = RunFiles(tmp_path, INFO, store="default", go_on=go_on)
        run.metrics({"a": 1.0}, step=0)
        run.text(f"{len(ids)}.txt", "")
        run.finish("KILLED", "interrupted")
        ids.append(load(tmp_path).id)
    assert len({*ids}) == 2
    assert ids[1] == ids[2]
    assert len(rows(tmp_path)) == 2
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {"1.txt", "2.txt"}


def test_a_record_that_goes_on_is_open_again_and_keeps_what_it_was(tmp_path: Path) -> None:
    RunFiles(tmp_path, INFO, store="default").finish("KILLED", "interrupted")
    before = load(tmp_path)
    run = RunFiles(tmp_path, RunInfo("another", "detection"), store="other", go_on=True)
    known = load(tmp_path)
    assert (known.status, known.end_time, known.error, known.store) == ("RUNNING", None, None, "other")
    assert (known.name, known.start_time, known.tags) == (before.name, before.start_time, before.tags)
    run.finish("FINISHED")


def test_to_go_on_without_a_record_starts_one(tmp_path: Path) -> None:
    RunFiles(tmp_path, INFO, store=None, go_on=True).finish("FINISHED")
    assert load(tmp_path).id
    assert rows(tmp_path) == []


@pytest.mark.parametrize("go_on", [False, True])
def test_each_call_is_later_than_the_one_before(tmp_path: Path, go_on: bool) -> None:
    for _ in range(2):
        run = RunFiles(tmp_path, INFO, store=None, go_on=go_on)
        for _ in range(50):
            run.metrics({"a": 0.0}, step=0)
        run.finish("FINISHED")
    times = [row.time_ms for row in read_rows(tmp_path)[0]]
    assert len(times) == (100 if go_on else 50)
    assert times == sorted(set(times))


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
