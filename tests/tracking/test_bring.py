"""One run, from its files into a store: what MLflow has of it then."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking import RunFiles, RunInfo
from qp_runner.tracking.bring import Parent, bring, status_of
from qp_runner.tracking.color import PARENT
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import milliseconds
from qp_runner.tracking.store import Store
from stores import INFO, SWEEP, lacking, load, runs, write

Bring = Callable[..., Any]


@pytest.fixture
def brought(store: Store, client: Any) -> Bring:
    """Brings a folder's run and returns it as MLflow has it."""

    def call(folder: Path, *, parent: Parent | None = None) -> Any:
        return client.get_run(bring(store, folder, load(folder), Marker(), parent=parent).run_id)

    return call


def history(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def artifacts(run: Any) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_a_store_has_what_the_files_have(brought: Bring, client: Any, uri: str, tmp_path: Path) -> None:
    run = write(tmp_path, store="s", steps=1200, end=None)  # more than one call may carry
    run.text("plots/about.txt", "below a folder")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    run.artifact("model.safetensors")
    run.finish("FINISHED")
    found, record = brought(tmp_path), load(tmp_path)
    assert lacking(client, tmp_path) == []
    assert history(client, found, "train/loss") == [(step, 1 / (step + 1)) for step in range(1200)]
    assert found.data.params == INFO.params
    assert (found.info.start_time, found.info.end_time) == (
        milliseconds(record.start_time),
        milliseconds(record.end_time or ""),
    )
    assert client.get_experiment(found.info.experiment_id).name == "classification"
    names = ("config.yaml", "plots/about.txt", "model.safetensors")
    assert [(artifacts(found) / name).read_bytes() for name in names] == [b"seed: 0\n", b"below a folder", b"weights"]
    assert artifacts(found).is_relative_to(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts")


def test_the_pages_of_mlflow_find_what_they_show(brought: Bring, tmp_path: Path) -> None:
    write(tmp_path, store="s")
    tags = brought(tmp_path).data.tags
    assert tags.items() >= {**INFO.tags, "mlflow.runName": INFO.name}.items()
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type", "version.torch", "command"} <= tags.keys()
    assert INFO.tags["order"] in tags["mlflow.note.content"]
    assert tags["mlflow.runColor"] != PARENT
    assert "mlflow.parentRunId" not in tags


def test_what_is_new_is_added_and_nothing_is_there_twice(store: Store, client: Any, tmp_path: Path) -> None:
    run = write(tmp_path, store="s", end=None)
    marker, empty = Marker(), Marker()
    for step in range(20, 23):
        marker = bring(store, tmp_path, load(tmp_path), marker, parent=None)
        assert status_of(store, marker.run_id) == "RUNNING"
        run.metrics({"train/loss": 0.5}, step=step)
        run.text("config.yaml", f"seed: {step}\n")
    run.finish("FINISHED")
    for known in (marker, marker, empty):  # also by one who does not know that the run is there
        marker = bring(store, tmp_path, load(tmp_path), known, parent=None)
    assert lacking(client, tmp_path) == []
    assert (artifacts(client.get_run(marker.run_id)) / "config.yaml").read_text() == "seed: 22\n"


def test_a_job_stands_under_its_sweep_in_the_sweeps_experiment(brought: Bring, client: Any, tmp_path: Path) -> None:
    write(tmp_path, store="s", info=SWEEP)
    parent = brought(tmp_path)
    assert parent.data.tags.items() >= {**SWEEP.tags, "mlflow.runColor": PARENT}.items()
    assert "3 runs" in parent.data.tags["mlflow.note.content"]
    write(tmp_path / "0", store="s", info=RunInfo("child", "another experiment"))
    run = brought(tmp_path / "0", parent=Parent(parent.info.run_id, "classification"))
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.info.experiment_id == parent.info.experiment_id
    assert client.get_experiment_by_name("another experiment") is None


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_an_end_with_an_error_is_marked(brought: Bring, client: Any, tmp_path: Path, status: Any) -> None:
    write(tmp_path, store="s", end=status)
    run = brought(tmp_path)
    assert run.info.status == status
    assert run.data.tags["error"] == "ValueError: no"
    assert (artifacts(run) / "error.txt").read_text(encoding="utf-8") == "ValueError: no\nmore"
    assert lacking(client, tmp_path) == []


def test_values_that_are_no_finite_number_are_stored_as_nan(brought: Bring, tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store="s")
    run.metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}, step=0)
    run.finish("FINISHED")
    stored = brought(tmp_path).data.metrics
    assert [math.isnan(stored[name]) for name in "abcd"] == [True, True, True, False]


def test_of_two_values_at_the_same_step_the_later_is_current(brought: Bring, client: Any, tmp_path: Path) -> None:
    run = RunFiles(tmp_path, INFO, store="s")
    for bits in (32.0, 4.0, 32.0, 8.0):
        run.metrics({"compress/bits_weight": bits}, step=100)
    run.finish("FINISHED")
    found = brought(tmp_path)
    assert found.data.metrics["compress/bits_weight"] == 8.0
    assert history(client, found, "compress/bits_weight") == [(100, 32.0), (100, 4.0), (100, 32.0), (100, 8.0)]


def test_names_and_values_that_mlflow_refuses_are_made_to_fit(brought: Bring, tmp_path: Path) -> None:
    long = RunInfo("run", "classification", {"note": "t" * 9000}, {"a": "p" * 7000, "b": "p" * 6000, "events.x@y": "1"})
    run = RunFiles(tmp_path, long, store="s")
    run.metrics({"val/mAP@0.5": 70.0, "../val//x": 1.0}, step=0)
    run.finish("FINISHED")
    data = brought(tmp_path).data
    assert data.metrics == {"val/mAP_0.5": 70.0, "val/x": 1.0}
    assert len(data.params["a"]) == 6000
    assert data.params["a"].endswith("[cut: the whole value is in config.yaml]")
    assert (data.params["b"], data.params["events.x_y"]) == ("p" * 6000, "1")
    assert len(data.tags["note"]) == 8000


@pytest.mark.parametrize(("first", "kept"), [("FAILED", 1), ("KILLED", 1), ("FINISHED", 2)])
def test_of_attempts_in_one_folder_those_that_did_not_finish_go(
    store: Store, client: Any, tmp_path: Path, first: Any, kept: int
) -> None:
    marker = Marker()
    for end in (first, "FINISHED"):
        write(tmp_path, store="s", end=end, info=RunInfo(tmp_path.name, "classification"))
        marker = bring(store, tmp_path, load(tmp_path), marker, parent=None)
    own = [run for run in runs(client) if run.info.run_name == tmp_path.name]
    assert [run.info.status for run in own] == ["FINISHED"] * kept


def test_the_same_files_may_be_brought_into_two_stores(
    store: Store, client: Any, results: Path, tmp_path: Path
) -> None:
    marker = Marker()
    write(tmp_path / "run", store="s")
    marker = bring(store, tmp_path / "run", load(tmp_path / "run"), marker, parent=None)
    replace(load(tmp_path / "run"), store="default").save(tmp_path / "run")
    other = Store(f"sqlite:///{results / 'mlflow.db'}")
    bring(other, tmp_path / "run", load(tmp_path / "run"), marker, parent=None)
    assert lacking(client, tmp_path / "run") == lacking(other.client, tmp_path / "run") == []


def test_where_artifacts_cannot_be_kept_numbers_and_status_are(
    store: Store, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, store="s")
    marker = Marker()
    with monkeypatch.context() as broken:
        broken.setattr(store.client, "log_artifact", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring(store, tmp_path, load(tmp_path), marker, parent=None)
    [run] = [each for each in runs(client) if each.data.tags["qp_runner.id"] == load(tmp_path).id]
    assert (run.info.status, len(history(client, run, "train/loss"))) == ("FINISHED", 20)
    bring(store, tmp_path, load(tmp_path), marker, parent=None)
    assert lacking(client, tmp_path) == []
