import shutil
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking.store import Store, prepare, store_key


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store without experiments, to be copied: making one takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def uri(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One prepared store for many tests."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_database, path)
    prepare(f"sqlite:///{path}", "classification")
    return f"sqlite:///{path}"


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri)


@pytest.fixture
def client(store: Store) -> Any:
    return store.client


@pytest.fixture
def key(uri: str, tmp_path: Path) -> str:
    """What run.json names the shared store by."""
    return store_key(uri, tmp_path) or ""


@pytest.fixture
def results(empty_database: Path, tmp_path: Path) -> Path:
    """A results folder with a store of its own, which no process has opened yet."""
    folder = tmp_path / "results"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def other_runs_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user may have set for other programs must not reach our runs."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "not ours")
