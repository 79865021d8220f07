from pathlib import Path

import pytest
import torch

from qp_runner.config.compose import jobs
from qp_runner.sweep.gpu import MPS, advice, reserve_gpu
from support import execute


def test_each_job_gets_a_free_gpu_as_long_as_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    [job], _ = jobs([], multirun=False)
    with reserve_gpu(job.config, 0) as first, reserve_gpu(job.config, 1) as second:
        assert (first.trainer.device, second.trainer.device) == ("cuda:0", "cuda:1")
        for launched in (2, 3):  # more jobs than GPUs
            with reserve_gpu(job.config, launched) as third:
                assert third.trainer.device == f"cuda:{launched % 2}"
    with reserve_gpu(job.config, 4) as first:
        with reserve_gpu(job.config, 5) as second:
            assert (first.trainer.device, second.trainer.device) == ("cuda:0", "cuda:1")
        with reserve_gpu(job.config, 6) as next_one:  # not the one that its number would have
            assert next_one.trainer.device == "cuda:1"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
        with reserve_gpu(job.config, 7) as other:  # which counts the other way round
            assert other.trainer.device == "cuda:0"


def test_a_device_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    [fixed], _ = jobs(["trainer.device=cpu"], multirun=False)
    with reserve_gpu(fixed.config, 1) as config:
        assert config.trainer.device == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    [job], _ = jobs([], multirun=False)
    with reserve_gpu(job.config, 3) as config:
        assert config.trainer.device == "auto"


STOPPED = "echo Cannot find MPS control daemon process"
TURNS = "4 jobs at once take turns on {}; they run side by side once `nvidia-cuda-mps-control -d` was called"


@pytest.mark.parametrize(
    ("overrides", "gpus", "control", "said"),
    [
        ([], 1, f"{STOPPED}; exit 1", TURNS.format("the GPU")),
        ([], 1, STOPPED, TURNS.format("the GPU")),
        ([], 2, STOPPED, TURNS.format("2 GPUs")),
        (["trainer.device=cuda:1"], 4, STOPPED, TURNS.format("the GPU")),
        ([], 1, "read order; [ $order = get_server_list ] && echo 4711", ""),
        ([], 1, None, ""),  # not installed
        ([], 4, STOPPED, ""),
        ([], 0, STOPPED, ""),
        (["trainer.device=cpu"], 1, STOPPED, ""),
    ],
)
def test_jobs_that_share_a_gpu_without_the_service_for_it_are_told(
    overrides: list[str], gpus: int, control: str | None, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if control is not None:
        (tmp_path / MPS).write_text(f"#!/bin/sh\n{control}\n")
        (tmp_path / MPS).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    [job], _ = jobs(overrides, multirun=False)
    assert advice(job.config, 4) == said


def test_only_jobs_that_do_run_at_once_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    told: list[int] = []
    monkeypatch.setattr("qp_runner.sweep.sweeper.advice", lambda config, at_once: told.append(at_once) or "told")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.epochs=1", "tracking=none"]
    assert execute(["-m", *launcher, "schedule=float", "seed=0", "trainer.progress=false"]) == 0
    assert told == [1]
    assert "told" in capsys.readouterr().err
