"""A password in `tracking.uri` is nowhere in what a command leaves or says, and the command still works."""

from pathlib import Path

import pytest

from qp_runner.masking import VARIABLE
from support import execute

QUICK = ["trainer.epochs=1", "trainer.batch_size=256", "trainer.progress=false"]
URI, HIDDEN = "postgresql+psycopg2://user7:PWsecret@host/db", "postgresql+psycopg2://***@host/db"


def leaks(folder: Path) -> list[str]:
    """Files that have the user's name or password; those that the test itself wrote left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and "mine" not in path.parts]
    assert len(files) > 10
    return [str(path) for path in files if b"PWsecret" in path.read_bytes() or b"user7" in path.read_bytes()]


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


@pytest.mark.parametrize("command", [["seed=1"], ["-m", "seed=1,2"]])
def test_on_the_command_line(here: Path, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([*command, "tracking=none", f"tracking.uri={URI}", *QUICK]) == 0
    assert leaks(here) == []
    said = "".join(capfd.readouterr())
    assert "PWsecret" not in said
    records = list(here.rglob("run.json"))
    assert len(records) == (3 if "-m" in command else 1)
    assert all(f"tracking.uri={HIDDEN}" in path.read_text(encoding="utf-8") for path in records)


def test_in_a_file_of_the_users(here: Path) -> None:
    mine = here / "mine/tracking/mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(f"kind: none\nuri: {URI}\n")
    assert execute(["--config-dir", str(here / "mine"), "tracking=mine", *QUICK]) == 0
    assert leaks(here) == []
    assert any(HIDDEN in path.read_text() for path in here.rglob(".hydra/config.yaml"))


@pytest.mark.parametrize("command", [["seed=1"], ["-m", "seed=1,2"]])
def test_in_what_is_said_of_a_server_that_is_gone(
    here: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute([*command, "tracking.uri=http://user7:PWsecret@127.0.0.1:9", *QUICK]) == 2
    said = capfd.readouterr().err
    assert "qp-runner: tracking.uri=http://***@127.0.0.1:9: an MLflow store that can be opened" in said
    assert "Traceback" not in said
    assert "PWsecret" not in said
    assert not [path for path in here.rglob("*") if path.is_file() and b"PWsecret" in path.read_bytes()]
