"""Servers that are gone or say nothing: an answer after a bounded time, which no test measures."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from qp_runner.errors import ConfigError
from qp_runner.tracking.probe import check_answers
from qp_runner.tracking.store import prepare


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def gone() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_server_that_is_gone_is_one_clear_line_without_its_password(gone: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^tracking\.uri=http://\*\*\*@127\.0\.0\.1:{gone}: [^\n]*$") as caught:
        prepare(f"http://u:PWsecret@127.0.0.1:{gone}", "classification", results=tmp_path)
    assert "PWsecret" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qp_runner.tracking.probe.PROBE_S", 1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with pytest.raises(Exception, match="timed out"):
        check_answers(f"http://127.0.0.1:{silent}")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "600"  # the short one was for the question alone
    assert os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") != "0"


def test_a_database_server_is_asked_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def connect(**given: object) -> None:
        asked.append(given["connect_timeout"])
        raise RuntimeError("nobody is there")

    driver = ModuleType("pymysql")
    errors = dict.fromkeys(
        ("Error", "OperationalError", "InterfaceError", "InternalError", "ProgrammingError"), RuntimeError
    )
    driver.__dict__.update(connect=connect, paramstyle="pyformat", VERSION=(1, 0, 0), **errors)
    monkeypatch.setitem(sys.modules, "pymysql", driver)
    with pytest.raises(Exception, match="nobody is there"):
        check_answers("mysql+pymysql://u:PWsecret@127.0.0.1/db")
    assert asked == [10]


def test_an_address_from_a_record_asks_for_its_password() -> None:
    with pytest.raises(ConfigError, match=r"stands for a user and a password, which records do not keep"):
        prepare("postgresql://***@127.0.0.1/db", "classification")
