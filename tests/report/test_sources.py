"""Stores as they are found: nothing in them changes by being read, and only this project's runs are read."""

import logging
import math
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from qp_runner.errors import ConfigError
from qp_runner.report.database import Database
from qp_runner.report.read import read
from qp_runner.report.server import Server
from qp_runner.tracking.client import client


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """The store, in a results folder that was moved: what MLflow stores of its artifacts' place is wrong."""
    shutil.copytree(store.parent / "mlartifacts", tmp_path / "results/mlartifacts")
    shutil.copy(store, tmp_path / "results/mlflow.db")
    return tmp_path / "results/mlflow.db"


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def old(path: Path) -> None:
    """Makes a store look like one of an MLflow that had fewer tables and columns."""
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
        opened.execute("DROP TABLE trace_tags")
        opened.execute("ALTER TABLE runs DROP COLUMN deleted_time")


@pytest.mark.parametrize("make", [None, old])
def test_reading_changes_nothing(
    copy: Path, make: Callable[[Path], None] | None, caplog: pytest.LogCaptureFixture
) -> None:
    if make is not None:
        make(copy)
    before = state(copy.parent)
    found = read(str(copy), sweep="first")
    assert len(found.runs) == 14
    assert len(found.histories(list(found.runs["run_id"]), [])) > 100
    assert state(copy.parent) == before
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert ["of an older MLflow" in each for each in said] == ([True] if make else [])


def test_an_empty_file_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(ConfigError, match=r"--store=.*an MLflow store that can be read"):
        read(str(tmp_path / "mlflow.db"))
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("mlflow.db", 0)]


def test_a_store_that_may_not_be_written_is_read(copy: Path) -> None:
    copy.chmod(0o444)
    copy.parent.chmod(0o555)
    try:
        assert len(read(str(copy), sweep="first").runs) == 14
    finally:
        copy.parent.chmod(0o755)


def test_runs_of_others_in_the_same_store_are_not_read(copy: Path) -> None:
    before = read(str(copy), sweep="all").runs
    foreign = client(f"sqlite:///{copy}")
    experiment = foreign.get_experiment_by_name("classification").experiment_id
    for number, sweep in enumerate(("first", "zzz")):
        own = before[before["sweep"] == "first"]["parent_run_id"].iloc[0]
        tags = {"sweep": sweep, "schedule": "p_q_w", "seed": "x", "mlflow.parentRunId": own, "metric": "auc"}
        run = foreign.create_run(experiment, tags=tags, run_name=f"foreign {number}")
        foreign.log_metric(run.info.run_id, "final/auc", 0.5)
        foreign.set_terminated(run.info.run_id)
    pd.testing.assert_frame_equal(read(str(copy), sweep="all").runs, before)
    assert set(read(str(copy)).runs["sweep"]) == {"last"}
    assert {run.run_id for run in Server(f"sqlite:///{copy}").runs()} == {
        run.run_id for run in Database(str(copy), params=[]).runs()
    }


def test_a_database_reads_what_mlflow_reads(store: Path) -> None:
    direct, through = Database(str(store), params=["trainer.epochs"]), Server(f"sqlite:///{store}")
    mine, theirs = ({run.run_id: run for run in source.runs()} for source in (direct, through))
    assert mine.keys() == theirs.keys()
    for run_id, run in mine.items():
        other = theirs[run_id]
        assert (run.status, run.start, run.end) == (other.status, other.start, other.end)
        assert run.tags == {name: value for name, value in other.tags.items() if not name.startswith("mlflow.note.")}
        assert run.metrics == pytest.approx(other.metrics, nan_ok=True)
        assert run.params.items() <= other.params.items()
    wanted = {"val/accuracy": list(mine), "compress/bits_weight": list(mine)[:3]}
    assert sorted(direct.history(wanted)) == sorted(through.history(wanted))


def test_values_that_are_not_a_number_are_so(copy: Path) -> None:
    writer = client(f"sqlite:///{copy}")
    run_id = str(read(str(copy), sweep="first").runs["run_id"].iloc[0])
    writer.log_metric(run_id, "val/odd", math.nan, step=3)
    [(_, _, step, value, _)] = Database(str(copy), params=[]).history({"val/odd": [run_id]})
    assert (step, math.isnan(value)) == (3, True)


def test_a_server_of_several_pages_is_read_whole(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Server(f"sqlite:///{store}").runs()
    monkeypatch.setattr("qp_runner.report.server.PAGE", 2)
    assert {run.run_id for run in Server(f"sqlite:///{store}").runs()} == {run.run_id for run in whole}


def test_pictures_of_a_store_that_was_moved_are_found_beside_it(copy: Path, store: Path) -> None:
    run_id = str(read(str(copy)).runs.query("status == 'FINISHED'")["run_id"].iloc[0])
    with closing(sqlite3.connect(copy)) as opened, opened:
        opened.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, '/gone')", (str(store.parent),))
    found = Database(str(copy), params=[]).pictures(run_id)
    assert found == Server(f"sqlite:///{store}").pictures(run_id)
    assert set(found) == {"front_door__input__output__target", "wide"}


def test_addresses_are_shown_without_user_and_password() -> None:
    with pytest.raises(ConfigError, match=r"^--store=postgresql://\*\*\*@127\.0\.0\.1:9/db: ") as caught:
        read("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)


def test_a_server_that_is_gone_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"--store=http.*an MLflow store that can be read") as caught:
        read("http://127.0.0.1:9")
    assert "\n" not in str(caught.value)
    assert os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") != "0"  # that was for the first question alone


def test_nothing_is_read_of_runs_that_are_not_asked_for(store: Path) -> None:
    assert read(str(store), sweep="first").histories([], []).empty
