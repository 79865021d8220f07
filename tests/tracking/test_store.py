import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking.folders import bring_folder
from qp_runner.tracking.store import artifacts_of, prepare, store_key
from stores import ended, fork, lacking, runs, start, write

PROCESSES = 3
PREPARE = """
import sys
from qp_runner.tracking.store import prepare
print(prepare(sys.argv[1], "classification").experiment("classification"))
"""


def test_processes_that_prepare_the_same_fresh_store_at_once_are_safe_and_quiet(tmp_path: Path) -> None:
    started = [start(PREPARE, f"sqlite:///{tmp_path}/results/mlflow.db") for _ in range(PROCESSES)]
    ends = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, ends
    assert len({out for out, _ in ends}) == 1  # one experiment for all
    assert [err for _, err in ends] == [""] * PROCESSES


def test_a_database_that_was_half_made_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def die_half_way(draft: str) -> None:
        with sqlite3.connect(draft.removeprefix("sqlite:///")) as database:
            database.execute("CREATE TABLE experiments (name TEXT)")  # as MLflow does, and cannot do twice
        os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / "mlflow.db.backup").touch()
    with monkeypatch.context() as patch:
        patch.setattr("qp_runner.tracking.store.client", die_half_way)
        assert ended(fork(lambda: prepare(uri, "classification"))) == -signal.SIGKILL
    assert prepare(uri, "classification").client.get_experiment_by_name("classification") is not None
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left - {".mlflow.db.lock"} == {"mlflow.db", "mlflow.db.backup"}


def test_a_file_without_tables_is_no_store_yet(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert prepare(f"sqlite:///{tmp_path}/mlflow.db", "classification").experiment("classification")


def test_a_results_folder_that_was_copied_writes_its_files_into_the_copy(results: Path, tmp_path: Path) -> None:
    write(results / "runs/a", store="default")
    store = prepare(f"sqlite:///{results}/mlflow.db", "classification")
    others = store.client.create_experiment("others", artifact_location=f"file://{tmp_path}/elsewhere/mlartifacts")
    assert bring_folder(store, results / "runs/a", results=results, store_key="default")
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    before = sorted(results.rglob("*"))
    write(copy / "runs/b", store="default")
    moved = prepare(f"sqlite:///{copy}/mlflow.db", "classification")
    assert bring_folder(moved, copy / "runs/b", results=copy, store_key="default")
    assert sorted(results.rglob("*")) == before
    assert lacking(moved.client, copy / "runs/a", copy / "runs/b") == []
    places = {Path(run.info.artifact_uri.removeprefix("file://")) for run in runs(moved.client)}
    assert len(places) == 2
    assert all(place.is_relative_to(copy) for place in places)
    assert moved.client.get_experiment(others).artifact_location == f"file://{tmp_path}/elsewhere/mlartifacts"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///{tmp}/store/mlflow.db", "file://{tmp}/store/mlartifacts"),
        ("postgresql+psycopg2://u:PW@host/db", "file://{tmp}/results/mlartifacts"),
        ("mysql://host/db", "file://{tmp}/results/mlartifacts"),
        ("http://host:5000", None),
    ],
)
def test_files_lie_beside_a_database_file_or_below_results(uri: str, expected: str | None, tmp_path: Path) -> None:
    where = artifacts_of(uri.format(tmp=tmp_path), tmp_path / "results")
    assert where == (expected and expected.format(tmp=tmp_path))


def test_an_experiment_is_made_once_and_taken_back_where_it_was_deleted(uri: str, client: Any) -> None:
    first = prepare(uri, "detection").experiment("detection")
    assert prepare(uri, "classification").experiment("classification") != first
    assert client.get_experiment(first).name == "detection"
    client.delete_experiment(first)
    assert prepare(uri, "detection").experiment("detection") == first
    assert client.get_experiment(first).lifecycle_stage == "active"


def test_a_store_is_named_without_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_key(None, "results") is None
    assert store_key(f"sqlite:///{tmp_path}/results/mlflow.db", "results") == "default"
    assert store_key("sqlite:///results/mlflow.db", tmp_path / "results") == "default"
    uris = ["sqlite:///other.db", "http://host:5000", "https://host:5000", "http://host:5000/path"]
    keys = {store_key(uri, "results") for uri in uris}
    assert len(keys) == 4
    assert store_key("http://me:secret@host:5000", "results") == store_key("http://host:5000", "results")
    first, later = (store_key(f"postgresql://host/db?password={word}", "results") for word in ("secret", "changed"))
    assert first == later
    assert all(key and key.isalnum() for key in keys)
