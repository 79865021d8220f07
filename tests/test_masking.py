import os
from pathlib import Path

import pytest

from qp_runner.masking import VARIABLE, hide, mask_files, masked, revealed

WHOLE = "postgresql+psycopg2://u:PW@host:5432/db"
HIDDEN = "postgresql+psycopg2://***@host:5432/db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WHOLE, HIDDEN),
        (HIDDEN, HIDDEN),
        ("http://token@host/path?x=1", "http://***@host/path?x=1"),
        ("mysql://u:p@ss@host/db", "mysql://***@host/db"),
        (
            "postgresql://host/db?user=u&password=PW&sslmode=require",
            "postgresql://host/db?user=***&password=***&sslmode=require",
        ),
        (f"uri: '{WHOLE}'\nother: http://a:b@c", f"uri: '{HIDDEN}'\nother: http://***@c"),
        ("sqlite:////results/mlflow.db", "sqlite:////results/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("me@example.org, val/mAP@0.5", "me@example.org, val/mAP@0.5"),
    ],
)
def test_user_information_of_addresses_is_masked_and_nothing_else(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize("argument", ["tracking.uri={}", "+tracking.uri={}", "tracking.uri='{}'", 'tracking.uri="{}"'])
def test_a_command_line_hides_an_address_that_its_processes_know(
    argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    given = ["-m", argument.format(WHOLE), "data.root=s3://key@bucket", "seed=0"]
    assert hide(given) == ["-m", argument.format(HIDDEN), *given[2:]]
    assert os.environ[VARIABLE] == WHOLE
    assert revealed(HIDDEN) == revealed(WHOLE) == WHOLE
    assert revealed(HIDDEN.replace("host", "other")) == HIDDEN.replace("host", "other")


def test_a_command_line_without_secrets_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    given = ["tracking.uri=http://host:5000", "tracking.uri=null", "seed=0,1"]
    assert hide(given) == given
    assert os.environ[VARIABLE] == ""


def test_files_are_masked_in_place_where_they_need_it(tmp_path: Path) -> None:
    with_secret, without = tmp_path / "a.yaml", tmp_path / "b.yaml"
    with_secret.write_text(f"uri: {WHOLE}\n")
    without.write_text("uri: null\n")
    before = without.stat().st_mtime_ns
    mask_files([with_secret, without])
    assert with_secret.read_text() == f"uri: {HIDDEN}\n"
    assert without.stat().st_mtime_ns == before
