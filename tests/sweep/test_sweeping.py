"""Sweeps share what they can and go on where they stopped; a killed run goes on to the same bits."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from qp_runner.config.compose import composing, jobs
from qp_runner.run.identity import job_digest
from qp_runner.sweep.earlier import sweep_digest
from qp_runner.sweep.outline import outline
from stores import lacking, load, open_store, runs
from support import execute, forked, metrics, same

TRACKED = ["trainer.epochs=3", "trainer.batch_size=128", "trainer.progress=false"]
QUICK = ["tracking=none", *TRACKED]


def folders(root: Path) -> list[Path]:
    return sorted((root / "runs").iterdir())


def only_sweep(root: Path) -> Path:
    [folder] = (root / "sweeps").iterdir()
    return folder


PUBLISHED = "float,q_wf,p_q_w,q_p_w,p_q_wf,q_p_wf"


def test_the_six_published_schedules_cost_685_of_1500_epochs() -> None:
    command = ["data=cifar10", "data.root=nowhere", "model=mobilenetv2", "trainer.epochs=250", f"schedule={PUBLISHED}"]
    made = outline(jobs(command, multirun=True)[0])
    assert made.epochs_asked == 1500
    assert made.epochs_computed <= 685
    assert sum(len(wave) for wave in made.waves) == 6


def test_plan_shows_the_tree_and_why_runs_do_not_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "-m", "schedule=float,p_q_wf,q_p_wf", "seed=0,1", "trainer.optimizer.lr=0.1,0.2"]) == 0
    text = capsys.readouterr().out
    assert "12 runs ask for 480 epochs" in text
    assert "4 trunks share nothing, because they differ in:" in text
    assert "  seed: 0, 1" in text
    assert "  trainer.optimizer.lr: 0.1, 0.2" in text
    assert "trunk of 3 runs" in text


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        (["trainer.save_model=true,false"], True),
        (["compress.footprint=ideal,stored"], True),
        (["compress.scale=float,power_of_two"], True),  # until the first event
        (["compress.granularity=element,channel", "trainer.executor=eager"], True),
        (["compress.granularity=element,channel", "trainer.executor=compile"], False),  # into other kernels
        (["compress.granularity=element,channel", "trainer.device=cuda"], False),  # planned where there may be no GPU
        (["trainer.optimizer.lr=0.1,0.2"], False),
        (["trainer.epochs=3,4"], False),
        (["model.networks.network.width=4,8"], False),
        (["trainer.precision=float32,bfloat16"], False),
    ],
)
def test_what_can_change_a_state_is_not_shared(changes: list[str], shares: bool) -> None:
    made = outline(jobs([*QUICK, *changes], multirun=True)[0])
    assert (len(made.plan.trees) == 1) == shares


def test_runs_of_a_sweep_are_those_made_alone(here: Path) -> None:
    settings = "compress.granularity=channel,element"  # which count from the first event on
    assert execute(["-m", settings, "schedule=p_q_wf,float", "results=shared", *QUICK]) == 0
    assert execute(["-m", settings, "schedule=p_q_wf", "results=alone", "checkpoint.enabled=false", *QUICK]) == 0
    assert execute(["schedule=float", "results=single", "checkpoint.enabled=false", *QUICK]) == 0
    shared, alone = (only_sweep(here / name) for name in ("shared", "alone"))
    same(shared / "0", alone / "0")
    same(shared / "2", alone / "1")
    same(shared / "3", folders(here / "single")[0])


def test_hydras_own_sweeper_still_works(here: Path) -> None:
    assert execute(["-m", "hydra/sweeper=basic", "schedule=float,q_p_wf", *QUICK]) == 0
    assert sorted(each.name for each in only_sweep(here / "results").iterdir() if each.is_dir()) == ["0", "1"]


def test_two_commands_are_the_same_run_if_they_train_and_measure_the_same() -> None:
    def one(*overrides: str) -> str:
        [job], _ = jobs(overrides, multirun=False)
        return job_digest(job.config)

    assert one("seed=1") == one("seed=1", "results=x", "tracking=none", "trainer.progress=false", "checkpoint.every=5")
    assert len({one(), one("seed=1"), one("compress.footprint=stored"), one("trainer.epochs=3")}) == 4
    planned, _ = jobs(["seed=1,0"], multirun=True)
    assert sweep_digest(planned) != sweep_digest(planned[::-1])


def test_the_same_sweep_goes_on_where_it_stopped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", "schedule=float,q_p_wf", "seed=0,1", *QUICK, "checkpoint.every=null"]
    assert execute(command) == 0
    folder = only_sweep(here / "results")
    replace(load(folder / "1"), status="KILLED").save(folder / "1")
    before, ended = metrics(folder / "1"), load(folder / "0").end
    capsys.readouterr()
    assert execute(command) == 0
    said = capsys.readouterr().err
    assert only_sweep(here / "results") == folder
    assert said.count("finished before, skipped") == 3
    assert "[1/4] float · seed 0: finished before, skipped" in said
    assert "[2/4] float · seed 1: accuracy" in said
    assert (load(folder / "0").end, load(folder / "1").status) == (ended, "FINISHED")
    pd.testing.assert_frame_equal(metrics(folder / "1"), before, check_exact=True)
    assert execute([*command, "checkpoint.fresh=true"]) == 0
    assert len(list((here / "results" / "sweeps").iterdir())) == 2
    assert "were stored" in capsys.readouterr().err  # within the sweep itself


def test_a_failed_job_is_recorded_the_others_go_on_and_it_is_tried_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-m", "trainer.optimizer.lr=1e38,0.1", *QUICK]
    assert execute(command) == 1
    failed, finished = (load(only_sweep(here / "results") / job) for job in ("0", "1"))
    assert (failed.status, finished.status) == ("FAILED", "FINISHED")
    assert "TrainingDivergedError" in (failed.error or "")
    assert execute(command) == 1
    said = capsys.readouterr().err
    assert said.count("[1/2] p_q_wf · seed 0: FAILED") == 2
    assert said.count("[2/2] p_q_wf · seed 0: finished before, skipped") == 1


def test_a_sweep_in_mlflow_is_one_parent_with_its_children_also_when_it_goes_on(here: Path) -> None:
    command = ["-m", "schedule=float,q_p_wf", *TRACKED]
    assert execute(command) == 0
    sweep = only_sweep(here / "results")
    client = open_store(here / "results").client
    first = {run.data.tags.get("schedule"): run.info.run_id for run in runs(client)}
    (sweep / "1" / "run.json").unlink()
    client.set_terminated(first["q_p_wf"], "KILLED")
    assert execute(command) == 0
    found = {run.data.tags.get("schedule"): run for run in runs(client)}
    assert len(runs(client)) == len(found) == 3
    assert lacking(client, sweep, sweep / "0", sweep / "1") == []
    assert [found[name].info.run_id for name in (None, "float")] == [first[None], first["float"]]
    assert {found[name].data.tags["mlflow.parentRunId"] for name in ("float", "q_p_wf")} == {first[None]}


def test_parallel_workers_lose_no_job_and_no_metric(here: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.threads=1"]
    assert execute(["-m", *launcher, "schedule=float,q_p_wf", "seed=0,1", *TRACKED]) == 0
    client, sweep = open_store(here / "results").client, only_sweep(here / "results")
    assert lacking(client, sweep, *(sweep / str(job) for job in range(4))) == []
    assert {run.info.status for run in runs(client)} == {"FINISHED"}
    assert len(runs(client)) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_a_run_killed_at_random_steps_ends_with_the_same_bits(here: Path) -> None:
    command = ["schedule=p_q_wf", "checkpoint.every=2", *QUICK]
    assert execute([*command, "results=alone", "checkpoint.enabled=false"]) == 0
    until_it_ends = """
dice = random.Random(4)
while (code := ended(start(command, dies_at=dice.randint(3, 9)))) != 0:
    print(code)
    assert code == -signal.SIGKILL
"""
    done = forked(until_it_ends, command)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 2
    assert "were stored" in done.stderr
    same(folders(here / "alone")[0], folders(here / "results")[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_processes_may_want_the_same_prefix_at_once(here: Path) -> None:
    command = ["schedule=p_q_wf", "checkpoint.every=3", *QUICK]
    done = forked("sys.exit(any([ended(pid) for pid in [start(command) for _ in range(3)]]))", command)
    assert done.returncode == 0, done.stderr
    assert "ignored" not in done.stderr
    first, *others = folders(here / "results")
    assert len(others) == 2
    for other in others:
        same(first, other)


def test_a_thousand_jobs_are_planned_without_composing_a_thousand_times(monkeypatch: pytest.MonkeyPatch) -> None:
    with composing(None) as loader:
        kind = type(loader)
    composed = Mock(wraps=kind.load_configuration)
    monkeypatch.setattr(kind, "load_configuration", lambda *args, **options: composed(*args, **options))
    rates = ",".join(str(rate / 1000) for rate in range(1, 126))
    planned, _ = jobs(["schedule=p_q_wf,q_p_wf", "seed=0,1,2,3", f"trainer.optimizer.lr={rates}"], multirun=True)
    assert len(planned) == len({job_digest(job.config) for job in planned}) == 1000
    assert composed.call_count <= 3
    made = outline(planned)
    assert [len(wave) for wave in made.waves] == [500, 500]
