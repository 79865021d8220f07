import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qp_runner
from qp_runner.errors import ConfigError
from qp_runner.tracking.store import prepare, store_key
from stores import ended, fork

ROOT = Path(qp_runner.__file__).parents[1]
PROCESSES = 3
PREPARE = """
import sys
from qp_runner.tracking.store import prepare
print(prepare(sys.argv[1], "classification").experiment("classification"))
"""


def test_processes_that_prepare_the_same_fresh_store_at_once_are_safe_and_quiet(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    call = [sys.executable, "-c", PREPARE, uri]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(PROCESSES)
    ]
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


def test_preparing_again_finds_the_same_experiment(uri: str, client: Any) -> None:
    first = prepare(uri, "classification").experiment("classification")
    assert prepare(uri, "classification").experiment("classification") == first
    assert prepare(uri, "detection").experiment("detection") != first
    assert client.get_experiment(first).name == "classification"


def test_an_experiment_deleted_in_mlflows_pages_is_taken_back(uri: str, client: Any) -> None:
    deleted = prepare(uri, "deleted").experiment("deleted")
    client.delete_experiment(deleted)
    assert prepare(uri, "deleted").experiment("deleted") == deleted
    assert client.get_experiment(deleted).lifecycle_stage == "active"


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////proc/nothing/mlflow.db"])
def test_a_store_that_cannot_be_used_is_an_error_in_one_line(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^tracking\.uri=") as caught:
        prepare(uri, "classification")
    assert "\n" not in str(caught.value)


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
