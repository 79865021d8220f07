"""Sweeps share what they can and go on where they stopped; a killed run goes on to the same bits."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from qp_runner.config.compose import composing, jobs
from qp_runner.config.hydra_errors import config_dir
from qp_runner.run.identity import job_digest
from qp_runner.sweep.outline import outline
from qp_runner.sweep.plan import sweep_digest
from support import execute, forked, metrics, same

QUICK = ["tracking=none", "trainer.epochs=3", "trainer.batch_size=128", "trainer.progress=false"]


def runs(root: Path) -> list[Path]:
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
        (["compress.granularity=element,channel"], True),
        (["trainer.optimizer.lr=0.1,0.2"], False),
        (["trainer.epochs=3,4"], False),
        (["model.networks.network.width=4,8"], False),
        (["trainer.precision=float32,bfloat16"], False),
    ],
)
def test_what_can_change_a_state_is_not_shared(changes: list[str], shares: bool) -> None:
    made = outline(jobs([*QUICK, *changes], multirun=True)[0])
    assert (len(made.plan.trees) == 1) == shares


def test_a_sweeps_runs_share_across_settings_that_count_later(here: Path) -> None:
    settings = "compress.granularity=channel,element"
    assert execute(["-m", settings, "schedule=p_q_wf", "results=shared", *QUICK]) == 0
    assert execute(["-m", settings, "schedule=p_q_wf", "results=alone", "checkpoint.enabled=false", *QUICK]) == 0
    for number in ("0", "1"):
        same(only_sweep(here / "shared") / number, only_sweep(here / "alone") / number)


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
    record = folder / "1" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "KILLED"}))
    before = metrics(folder / "1")
    os.utime(folder / "0" / "run.json", (1e9, 1e9))
    capsys.readouterr()
    assert execute(command) == 0
    said = capsys.readouterr().err
    assert only_sweep(here / "results") == folder
    assert said.count("finished before, skipped") == 3
    assert "[1/4] float · seed 0: finished before, skipped" in said
    assert "[2/4] float · seed 1: accuracy" in said
    assert json.loads(record.read_text())["status"] == "FINISHED"
    assert (folder / "0" / "run.json").stat().st_mtime == 1e9
    pd.testing.assert_frame_equal(metrics(folder / "1"), before, check_exact=True)
    assert execute([*command, "checkpoint.fresh=true"]) == 0
    assert len(list((here / "results" / "sweeps").iterdir())) == 2
    assert "were stored" in capsys.readouterr().err  # within the sweep itself


def test_failed_jobs_are_tried_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", "trainer.optimizer.lr=1e38,0.1", *QUICK]
    assert execute(command) == 1
    assert execute(command) == 1
    said = capsys.readouterr().err
    assert said.count("[1/2] p_q_wf · seed 0: FAILED") == 2
    assert said.count("[2/2] p_q_wf · seed 0: finished before, skipped") == 1


def test_a_sweep_that_goes_on_is_one_parent_in_mlflow(here: Path) -> None:
    command = ["-m", "schedule=float,q_p_wf", *[each for each in QUICK if each != "tracking=none"]]
    assert execute(command) == 0
    (only_sweep(here / "results") / "1" / "run.json").unlink()
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{here / 'results' / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("classification")
    assert experiment is not None
    before = {run.data.tags.get("schedule"): run for run in store.search_runs([experiment.experiment_id])}
    store.set_terminated(before["q_p_wf"].info.run_id, "KILLED")
    assert execute(command) == 0
    after = {run.data.tags.get("schedule"): run for run in store.search_runs([experiment.experiment_id])}
    assert len(store.search_runs([experiment.experiment_id])) == 3
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert after[None].info.run_id == before[None].info.run_id
    assert after["float"].info.run_id == before["float"].info.run_id
    for schedule in ("float", "q_p_wf"):
        assert [each.step for each in store.get_metric_history(after[schedule].info.run_id, "val/accuracy")] == [
            7,
            14,
            21,
        ]


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
    same(runs(here / "alone")[0], runs(here / "results")[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_processes_may_want_the_same_prefix_at_once(here: Path) -> None:
    command = ["schedule=p_q_wf", "checkpoint.every=3", *QUICK]
    done = forked("sys.exit(any([ended(pid) for pid in [start(command) for _ in range(3)]]))", command)
    assert done.returncode == 0, done.stderr
    assert "ignored" not in done.stderr
    first, *others = runs(here / "results")
    assert len(others) == 2
    for other in others:
        same(first, other)


def test_the_sweeper_lies_where_hydra_finds_it() -> None:
    from hydra.core.plugins import Plugins

    assert (config_dir() / "hydra" / "sweeper" / "trunks.yaml").is_file()
    assert "hydra_plugins.qp_runner_trunks.TrunkSweeper" in Plugins.instance().class_name_to_class


def test_hydras_own_sweeper_still_works(here: Path) -> None:
    assert execute(["-m", "hydra/sweeper=basic", "schedule=float,q_p_wf", *QUICK]) == 0
    assert sorted(each.name for each in only_sweep(here / "results").iterdir() if each.is_dir()) == ["0", "1"]


def test_parallel_workers_lose_no_job_and_no_metric(here: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    quick = [each for each in QUICK if each != "tracking=none"]
    assert execute(["-m", *launcher, "schedule=float,q_p_wf", "seed=0,1", "trainer.threads=1", *quick]) == 0
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{here / 'results' / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("classification")
    assert experiment is not None
    found = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert len(found) == 5
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    names = [f"{schedule} · seed {seed}" for schedule in ("float", "q_p_wf") for seed in (0, 1)]
    for number, job in enumerate(names):
        table = pd.read_csv(only_sweep(here / "results") / str(number) / "metrics.csv")
        for name, rows in table.groupby("name"):
            history = store.get_metric_history(found[job].info.run_id, str(name))
            written = sorted(zip(rows["step"], rows["value"], strict=True))
            assert sorted((each.step, each.value) for each in history) == written


def test_a_thousand_jobs_are_planned_without_composing_a_thousand_times(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    with composing(None) as loader:
        plain = type(loader).load_configuration

    def count(*arguments: object, **options: object) -> object:
        composed.append(options)
        return plain(*arguments, **options)

    monkeypatch.setattr(type(loader), "load_configuration", count)
    rates = ",".join(str(rate / 1000) for rate in range(1, 126))
    planned, _ = jobs(["schedule=p_q_wf,q_p_wf", "seed=0,1,2,3", f"trainer.optimizer.lr={rates}"], multirun=True)
    assert len(planned) == len({job_digest(job.config) for job in planned}) == 1000
    assert len(composed) <= 3
    made = outline(planned)
    assert [len(wave) for wave in made.waves] == [500, 500]
