from typing import Any

import pytest

from qp_runner.tracking import prepare


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One prepared store for all tests: a fresh database takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    prepare(uri, "classification")
    return uri


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture(autouse=True)
def other_runs_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user may have set for other programs must not reach our runs."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "not ours")
