import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking.store import prepare, store_key
from stores import ended, fork, start

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

    def die_half_way(_uri: str) -> None:
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute("CREATE TABLE experiments (name TEXT)")  # as MLflow does, and cannot do twice
        os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / "mlflow.db.backup").touch()
    with monkeypatch.context() as patch:
        patch.setattr("qp_runner.tracking.store.client", die_half_way)
        assert ended(fork(lambda: prepare(uri, "classification"))) == -signal.SIGKILL
    assert prepare(uri, "classification").client.get_experiment_by_name("classification") is not None
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left - {".mlflow.db.lock"} == {"mlflow.db", "mlflow.db.backup"}


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
    assert all(key and key.isalnum() for key in keys)
