"""Jobs of a sweep end with their files, and say so where a file is not as it should be."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from qp_runner.export import exporting_packed
from qp_runner.export.loading import load_packed
from qp_runner.report.read import read
from qp_runner.report.sections import sections
from qp_runner.tracking.client import client
from qp_runner.tracking.records import Record
from support import execute

SWEEP = ["-m", "schedule=p_q_wf,q_p_wf", "seed=0", "trainer.epochs=2", "trainer.device=cpu", "trainer.progress=false"]


def folders() -> list[Path]:
    [sweep] = Path("results", "sweeps").iterdir()
    return [sweep / "0", sweep / "1"]


def stored(store: Any) -> list[Any]:
    """The runs of jobs in MLflow, in the order of their numbers."""
    experiment = store.get_experiment_by_name("classification")
    runs = store.search_runs([experiment.experiment_id])
    return sorted((each for each in runs if "job" in each.data.tags), key=lambda each: each.data.tags["job"])


def verified(store: Any) -> list[Any]:
    """The error of each job's run in MLflow, and whether its files are as they should be."""
    return [(each.data.tags.get("error"), each.data.metrics["final/file_verified"]) for each in stored(store)]


def test_mlflow_has_every_jobs_files_with_their_figures(here: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    assert execute([*SWEEP, "export=all"]) == 0
    store = client(f"sqlite:///{here}/results/mlflow.db")
    names = {f"export/{name}" for name in ("packed.safetensors", "model.onnx", "verified.json")}
    runs = stored(store)
    assert len(runs) == 2  # the second one shares a prefix with the first
    for run, folder in zip(runs, folders(), strict=True):
        assert {each.path for each in store.list_artifacts(run.info.run_id, "export")} == names
        size = (folder / "export" / "packed.safetensors").stat().st_size
        assert run.data.metrics["export/packed_safetensors/file_bytes"] == size
        assert run.data.metrics["export/model_onnx/top1_agreement"] == 1
        assert (run.data.metrics["final/file_mb"], run.data.metrics["final/file_verified"]) == (8e-6 * size, 1)


def test_a_file_that_fails_leaves_its_run_in_the_comparison_and_the_sweep_ends_with_1(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_damaged(*args, **kwargs):
        network = load_packed(*args, **kwargs)
        if not (folders()[0] / "export" / "verified.json").exists():
            with torch.no_grad():
                network.fc.bias += 0.1
        return network

    with monkeypatch.context() as context:
        context.setattr(exporting_packed, "load_packed", first_damaged)
        assert execute([*SWEEP, "export=packed"]) == 1
    failure = "packed.safetensors: outputs differ by up to"
    assert f"its export failed, {failure}" in capsys.readouterr().err
    records = [Record.load(each) for each in folders()]
    assert [each.status for each in records] == ["FINISHED", "FINISHED"]
    assert records[0].error.startswith(failure)
    assert records[1].error is None
    [section] = sections(read(f"sqlite:///{here}/results/mlflow.db", sweep="all"))
    assert [row.metric.n for row in section.rows] == [1, 1]
    assert [row.is_verified for row in section.rows] == [False, True]
    assert [error.startswith(failure) for _, error in section.failed_exports] == [True]

    assert execute([*SWEEP, "export=packed"]) == 1  # skipped, but not forgotten
    assert f"job 1 of 2, skipped: {failure}" in capsys.readouterr().err
    assert execute(["export", f"run={folders()[0]}", "format=packed"]) == 0
    assert execute([*SWEEP, "export=packed"]) == 0
    store, mended = client(f"sqlite:///{here}/results/mlflow.db"), [(None, 1), (None, 1)]
    deadline = time.monotonic() + 60  # on a busy machine MLflow gets the rest in the background
    while (found := verified(store)) != mended and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found == mended


def test_a_skipped_job_without_its_file_is_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = [*SWEEP, "tracking=none", "export=packed"]
    assert execute(sweep) == 0
    (folders()[1] / "export" / "packed.safetensors").unlink()
    assert execute(sweep) == 1
    err = capsys.readouterr().err
    assert "job 2 of 2, skipped: packed missing below" in err
    assert "job 1 of 2, skipped" not in err
    shutil.rmtree(folders()[1] / "export")
    assert execute(sweep) == 1
    assert execute(["export", f"run={folders()[1]}", "format=packed"]) == 0
    assert execute(sweep) == 0


def test_a_sweep_that_is_interrupted_while_it_exports_goes_on_with_the_same_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    sweep = [*SWEEP, "tracking=none", "export=packed"]
    with monkeypatch.context() as context:
        context.setattr(exporting_packed, "load_packed", interrupt)
        assert execute(sweep) == 130
    assert Record.load(folders()[0]).status == "KILLED"
    assert execute(sweep) == 0
    for folder in folders():
        assert Record.load(folder).status == "FINISHED"
        [found] = json.loads((folder / "export" / "verified.json").read_text("utf-8"))
        assert found["failures"] == []
        assert sorted(each.name for each in (folder / "export").iterdir()) == ["packed.safetensors", "verified.json"]


def test_an_export_that_is_interrupted_leaves_the_run_finished(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / "runs" / "a"
    assert execute([*SWEEP[2:], "schedule=p_q_wf", "tracking=none", f"hydra.run.dir={folder}"]) == 0
    before = (folder / "run.json").read_bytes()
    seen = []

    def interrupt(*_args, **_kwargs):
        seen.append((folder / "run.json").read_bytes())  # what is left if the process is killed here
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(exporting_packed, "load_packed", interrupt)
        (folder / "export").mkdir()
        files = {"packed.safetensors": b"an earlier one", "verified.json": b"[]"}
        for name, content in files.items():
            (folder / "export" / name).write_bytes(content)
        assert execute(["export", f"run={folder}", "format=packed"]) == 130
        assert {each.name: each.read_bytes() for each in (folder / "export").iterdir()} == files
    assert seen == [before]
    assert (folder / "run.json").read_bytes() == before
    assert execute(["export", f"run={folder}", "format=packed"]) == 0
