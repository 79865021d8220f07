import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking import MlflowTracker, RunInfo, start_parent

INFO = RunInfo(
    "p_q_wf · seed 0",
    "classification",
    {"order": "P0.5(w) → Q8(w,f)", "model": "small_cnn", "data": "digits", "seed": "0", "variant": ""},
    {"trainer.epochs": "30", "schedule.events": "{}", **{f"model.{index}": str(index) for index in range(150)}},
)


def history(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_what_was_recorded_is_read_back(uri: str, client: Any, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"png")
    tracker = MlflowTracker(uri, INFO)
    for step in range(1200):  # more than one call may carry
        tracker.metrics({"train/loss": 1 / (step + 1)}, step=step)
    tracker.text("config.yaml", "seed: 0\n")
    tracker.artifact(tmp_path / "plot.png", "plots")
    tracker.finish("FINISHED")
    run = client.get_run(tracker.run_id)
    assert history(client, tracker.run_id, "train/loss") == [(step, 1 / (step + 1)) for step in range(1200)]
    assert run.data.params == INFO.params
    assert run.data.tags.items() >= INFO.tags.items()
    assert (run.info.run_name, run.info.status) == (INFO.name, "FINISHED")
    assert run.info.end_time >= run.info.start_time
    assert client.get_experiment(run.info.experiment_id).name == "classification"
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (root / "config.yaml").read_text(encoding="utf-8") == "seed: 0\n"
    assert (root / "plots/plot.png").read_bytes() == b"png"


def test_files_lie_beside_the_database(uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri, INFO)
    tracker.finish("FINISHED")
    beside = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert client.get_run(tracker.run_id).info.artifact_uri.startswith(beside.as_uri())


def test_a_child_stands_under_its_parent_in_the_parents_experiment(uri: str, client: Any) -> None:
    parent = start_parent(uri, "classification", "sweep", {})
    tracker = MlflowTracker(uri, RunInfo("child", "another experiment"), parent_run_id=parent)
    tracker.finish("FINISHED")
    run = client.get_run(tracker.run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.info.experiment_id == client.get_run(parent).info.experiment_id
    assert client.get_experiment_by_name("another experiment") is None


def test_the_pages_of_mlflow_find_what_they_show(uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri, INFO)
    tracker.finish("FINISHED")
    tags = client.get_run(tracker.run_id).data.tags
    assert tags["mlflow.runName"] == INFO.name
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type", "version.torch", "command"} <= tags.keys()
    assert INFO.tags["order"] in tags["mlflow.note.content"]
    assert "mlflow.parentRunId" not in tags


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_an_end_with_an_error_is_marked(uri: str, client: Any, status: Any) -> None:
    tracker = MlflowTracker(uri, INFO)
    tracker.metrics({"train/loss": 0.5}, step=1)
    tracker.finish(status, "ValueError: the loss is NaN\nat step 7")
    tracker.finish("FINISHED")
    run = client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.data.tags["error"] == "ValueError: the loss is NaN"
    assert history(client, tracker.run_id, "train/loss") == [(1, 0.5)]
    error = Path(run.info.artifact_uri.removeprefix("file://")) / "error.txt"
    assert error.read_text(encoding="utf-8") == "ValueError: the loss is NaN\nat step 7"


def test_values_that_are_no_finite_number_are_stored_as_nan(uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri, INFO)
    tracker.metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}, step=0)
    tracker.finish("FINISHED")
    stored = client.get_run(tracker.run_id).data.metrics
    assert [math.isnan(stored[name]) for name in "abcd"] == [True, True, True, False]


def test_of_two_values_at_the_same_step_the_later_is_current(uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri, INFO)
    tracker.metrics({"compress/bits_weight": 32.0}, step=100)
    tracker.metrics({"compress/bits_weight": 8.0}, step=100)
    tracker.finish("FINISHED")
    assert client.get_run(tracker.run_id).data.metrics["compress/bits_weight"] == 8.0
    assert history(client, tracker.run_id, "compress/bits_weight") == [(100, 32.0), (100, 8.0)]


def test_names_and_values_that_mlflow_refuses_are_made_to_fit(uri: str, client: Any) -> None:
    long = RunInfo("run", "classification", {"note": "t" * 9000}, {"a": "p" * 7000, "b": "p" * 6000, "events.x@y": "1"})
    tracker = MlflowTracker(uri, long)
    tracker.metrics({"val/mAP@0.5": 70.0, "../val//x": 1.0}, step=0)
    tracker.finish("FINISHED")
    data = client.get_run(tracker.run_id).data
    assert data.metrics == {"val/mAP_0.5": 70.0, "val/x": 1.0}
    assert len(data.params["a"]) == 6000
    assert data.params["a"].endswith("[cut: the whole value is in config.yaml]")
    assert (data.params["b"], data.params["events.x_y"]) == ("p" * 6000, "1")
    assert len(data.tags["note"]) == 8000


def test_the_runs_random_numbers_are_left_alone(uri: str) -> None:
    random.seed(0)
    before = random.getstate()
    tracker = MlflowTracker(uri, INFO)
    tracker.metrics({"train/loss": 0.5}, step=1)
    tracker.flush()
    tracker.text("a.txt", "a")
    tracker.finish("FINISHED")
    assert random.getstate() == before


def test_a_store_that_cannot_be_opened_warns_once_and_lets_the_run_live(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/file/mlflow.db", INFO)
    tracker.metrics({"train/loss": 0.5}, step=1)
    tracker.text("a.txt", "a")
    tracker.artifact(tmp_path / "file")
    tracker.flush()
    tracker.finish("FAILED", "ValueError")
    assert tracker.run_id == ""
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the run goes on" in caplog.text


def test_a_store_that_fails_for_a_while_has_everything_in_the_end(
    uri: str, client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(uri, INFO)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(tracker._client, "log_batch", refuse)
        broken.setattr(tracker._client, "log_text", refuse)
        tracker.metrics({"train/loss": 0.5}, step=1)
        tracker.flush()
        tracker.text("a.txt", "a")
        tracker.flush()
    assert len(caplog.records) == 1
    tracker.metrics({"train/loss": 0.25}, step=2)
    tracker.finish("FINISHED")
    assert history(client, tracker.run_id, "train/loss") == [(1, 0.5), (2, 0.25)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
