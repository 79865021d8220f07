import csv
import json
import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import qp_runner
from qp_runner.tracking import FileTracker, RunInfo

INFO = RunInfo("p_q_wf · seed 0", "classification", {"order": "P0.5(w) → Q8(w,f)", "variant": ""}, {"seed": "0"})


def rows(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_what_was_recorded_is_read_back_exactly(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path / "run", INFO)
    tracker.metrics({"train/loss": 1 / 3, 'odd, "name"': 1e-300}, step=10)
    tracker.metrics({"train/loss": 0.1}, step=20)
    tracker.text("config.yaml", "seed: 0  # Größe\n")
    tracker.finish("FINISHED")
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
    tracker = FileTracker(tmp_path, INFO)
    tracker.metrics({"a": math.nan, "b": math.inf, "c": -math.inf}, step=0)
    tracker.finish("FINISHED")
    values = {name: value for _, name, value in rows(tmp_path)}
    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (math.inf, -math.inf)


def test_records_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path, INFO)
    assert record(tmp_path)["status"] == "RUNNING"
    tracker.metrics({"train/loss": 0.5}, step=1)
    assert rows(tmp_path) == [(1, "train/loss", 0.5)]
    tracker.finish("KILLED", "interrupted")
    assert (record(tmp_path)["status"], record(tmp_path)["error"]) == ("KILLED", "interrupted")


def test_a_process_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from qp_runner.tracking import FileTracker, RunInfo\n"
        "tracker = FileTracker(Path(sys.argv[1]), RunInfo('run', 'classification'))\n"
        "for step in range(100): tracker.metrics({'train/loss': step / 7}, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(qp_runner.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=root)
    assert rows(tmp_path) == [(step, "train/loss", step / 7) for step in range(100)]
    assert record(tmp_path)["status"] == "RUNNING"


def test_a_second_finish_changes_nothing(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path, INFO)
    tracker.finish("FAILED", "ValueError: no")
    before = (tmp_path / "run.json").read_bytes()
    tracker.finish("FINISHED")
    tracker.flush()
    assert (tmp_path / "run.json").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_a_new_run_in_the_same_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for loss in (0.5, 0.25):
        tracker = FileTracker(tmp_path, INFO)
        tracker.metrics({"train/loss": loss}, step=1)
        tracker.text(f"{loss}.txt", "")
        tracker.finish("FINISHED")
    assert rows(tmp_path) == [(1, "train/loss", 0.25)]
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["0.25.txt"]


def test_files_and_folders_are_copied_in(tmp_path: Path) -> None:
    (tmp_path / "plots/deep").mkdir(parents=True)
    (tmp_path / "plots/deep/a.png").write_bytes(b"a")
    tracker = FileTracker(tmp_path / "run", INFO)
    tracker.artifact(tmp_path / "plots")
    tracker.artifact(tmp_path / "plots/deep/a.png", "more")
    tracker.finish("FINISHED")
    kept = {str(path.relative_to(tmp_path / "run/artifacts")) for path in (tmp_path / "run/artifacts").rglob("*.png")}
    assert kept == {"plots/deep/a.png", "more/a.png"}


@pytest.mark.parametrize("name", ["model.pt", "artifacts/model.pt"])
def test_a_file_in_the_runs_own_folder_stays_the_only_one(tmp_path: Path, name: str) -> None:
    tracker = FileTracker(tmp_path, INFO)
    (tmp_path / name).write_bytes(b"weights")
    tracker.artifact(tmp_path / name)
    tracker.finish("FINISHED")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("model.pt")] == [name]
    assert (tmp_path / name).read_bytes() == b"weights"
