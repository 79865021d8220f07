import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import qp_runner
from qp_runner.errors import ConfigError
from qp_runner.tracking import MlflowTracker, RunInfo, finish_parent, log_parent, prepare, start_parent

ROOT = Path(qp_runner.__file__).parents[1]
PROCESSES, STEPS = 4, 150
PREPARE_AND_LOG = f"""
import sys
from qp_runner.tracking import MlflowTracker, RunInfo, prepare
uri, number = sys.argv[1], int(sys.argv[2])
print(prepare(uri, "classification"))
tracker = MlflowTracker(uri, RunInfo(f"run {{number}}", "classification"))
for step in range({STEPS}):
    tracker.metrics({{"train/loss": number + step / 1000, "val/accuracy": float(number)}}, step=step)
    if step % 10 == 0:
        tracker.flush()
print(tracker.run_id)
tracker.finish("FINISHED")
"""
LOG_AND_WAIT = """
import sys, time
from qp_runner.tracking import MlflowTracker, RunInfo
tracker = MlflowTracker(sys.argv[1], RunInfo("killed", "classification"), parent_run_id=sys.argv[2])
tracker.metrics({"train/loss": 0.5}, step=1)
print(tracker.run_id, flush=True)
time.sleep(600)
"""


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[tuple[int, str, str]]]:
    """Processes that start at once on a folder that does not exist: the store, and each one's exit code and words."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('crowd')}/results/mlflow.db"
    processes = [start(PREPARE_AND_LOG, uri, str(number)) for number in range(PROCESSES)]
    ends = [process.communicate(timeout=120) for process in processes]
    return uri, [(process.returncode, *words) for process, words in zip(processes, ends, strict=True)]


def test_processes_that_prepare_the_same_fresh_store_at_once_are_safe(crowd: Any) -> None:
    _, ends = crowd
    assert [code for code, _, _ in ends] == [0] * PROCESSES, ends
    assert len({out.split()[0] for _, out, _ in ends}) == 1  # one experiment for all


def test_processes_that_log_at_once_lose_nothing_and_record_nothing_twice(crowd: Any) -> None:
    from mlflow import MlflowClient

    uri, ends = crowd
    client = MlflowClient(tracking_uri=uri)
    for number, (_, out, _) in enumerate(ends):
        run_id = out.split()[1]
        loss, accuracy = (client.get_metric_history(run_id, name) for name in ("train/loss", "val/accuracy"))
        assert [(each.step, each.value) for each in loss] == [(step, number + step / 1000) for step in range(STEPS)]
        assert [(each.step, each.value) for each in accuracy] == [(step, float(number)) for step in range(STEPS)]
        assert client.get_run(run_id).info.status == "FINISHED"


def test_a_store_is_made_without_chatter(crowd: Any) -> None:
    _, ends = crowd
    assert [err for _, _, err in ends] == [""] * PROCESSES


def test_preparing_again_finds_the_same_experiment(uri: str, client: Any) -> None:
    first = prepare(uri, "classification")
    assert prepare(uri, "classification") == first
    assert prepare(uri, "detection") != first
    assert client.get_experiment(first).name == "classification"


def test_an_experiment_deleted_in_mlflows_pages_is_taken_back(uri: str, client: Any) -> None:
    deleted = prepare(uri, "deleted")
    client.delete_experiment(deleted)
    assert prepare(uri, "deleted") == deleted
    assert client.get_experiment(deleted).lifecycle_stage == "active"


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////proc/nothing/mlflow.db"])
def test_a_store_that_cannot_be_used_is_told_before_any_training(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^tracking\.uri=") as caught:
        prepare(uri, "classification")
    assert "\n" not in str(caught.value)


def test_a_parent_holds_its_tags_and_its_end(uri: str, client: Any) -> None:
    parent = start_parent(uri, "classification", "default · 2026-01-01", {"sweep": "2026-01-01", "jobs": "18"})
    assert client.get_run(parent).info.status == "RUNNING"
    finish_parent(uri, parent, "FINISHED")
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("default · 2026-01-01", "FINISHED")
    assert run.data.tags.items() >= {"sweep": "2026-01-01", "jobs": "18"}.items()
    assert "18 runs" in run.data.tags["mlflow.note.content"]


def test_a_parent_needs_a_prepared_store(uri: str) -> None:
    with pytest.raises(ValueError, match="prepare"):
        start_parent(uri, "no such experiment", "sweep", {})


def test_a_store_that_fails_at_the_end_warns(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    finish_parent(uri, "0" * 32, "FINISHED")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_sweeps_results_are_its_parents(uri: str, client: Any, tmp_path: Path) -> None:
    prepare(uri, "classification")
    parent = start_parent(uri, "classification", "sweep", {})
    file = tmp_path / "search.csv"
    file.write_text("trial\n0\n")
    log_parent(uri, parent, {"search/front": 3.0}, step=24, files=[file])
    assert [(each.step, each.value) for each in client.get_metric_history(parent, "search/front")] == [(24, 3.0)]
    assert [each.path for each in client.list_artifacts(parent)] == ["search.csv"]


def test_results_that_a_store_does_not_take_warn(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    log_parent(uri, "0" * 32, {"search/front": 3.0}, step=24, files=[])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_job_killed_in_mid_run_keeps_what_it_logged_and_ends_with_its_parent(uri: str, client: Any) -> None:
    parent = start_parent(uri, "classification", "sweep", {})
    process = start(LOG_AND_WAIT, uri, parent)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    patience = time.monotonic() + 30
    while not client.get_metric_history(run_id, "train/loss") and time.monotonic() < patience:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert [(each.step, each.value) for each in client.get_metric_history(run_id, "train/loss")] == [(1, 0.5)]
    done = MlflowTracker(uri, RunInfo("done", "classification"), parent_run_id=parent)
    done.finish("FINISHED")
    assert client.get_run(run_id).info.status == "RUNNING"
    finish_parent(uri, parent, "FINISHED")
    assert client.get_run(run_id).info.status == "KILLED"
    assert "killed" in client.get_run(run_id).data.tags["error"]
    assert client.get_run(done.run_id).info.status == "FINISHED"
