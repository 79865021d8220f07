"""A search as a person runs it: what it finds and leaves, that its trials share training, that it can be continued."""

import os
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from qp_runner.config.compose import config_dir
from stores import lacking, open_store, runs
from support import execute, forked, metrics, same

pytest.importorskip("optuna")

QUICK = ["trainer.epochs=3", "trainer.batch_size=128", "trainer.progress=false", "trainer.threads=1"]
SMALL = ["schedule=p_q_w", "search=tpe", "search.startup=3", *QUICK]
RANGES = {
    "schedule.events.prune_weight.start": "{low: 0.1, high: 0.5, step: 0.2, unit: dur}",
    "schedule.events.prune_weight.end": "{low: 0.3, high: 0.7, step: 0.2, unit: dur}",
    "schedule.events.quantize_weight.to": "{choices: [3, 4, 8]}",
}
SPACE = f"+search.space={{{', '.join(f'{key}: {text}' for key, text in RANGES.items())}}}"
PLAIN = [*SMALL, SPACE, "tracking=none"]


def only_sweep(root: Path) -> Path:
    [folder] = (root / "sweeps").iterdir()
    return folder


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "search.csv", dtype=str, keep_default_na=False)


def table(root: Path) -> pd.DataFrame:
    return read(only_sweep(root))


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """The same trials, whatever part of their training was stored before."""
    pd.testing.assert_frame_equal(one.drop(columns="steps_computed"), other.drop(columns="steps_computed"))


def test_a_search_leaves_its_front_as_table_picture_and_in_the_parent_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*SMALL, SPACE, "search.trials=5"]) == 0
    printed, sweep = capsys.readouterr(), only_sweep(here / "results")
    found = read(sweep)
    assert found[found["state"] == "finished"]["job"].nunique() == 5
    assert "Pareto front" in printed.out
    assert "search: 5 of 5 runs" in printed.err
    assert (sweep / "search.png").read_bytes()[:4] == b"\x89PNG"
    client = open_store(here / "results").client
    assert lacking(client, sweep, *(sweep / str(job) for job in range(6))) == []  # float run and trials
    [parent] = [run for run in runs(client) if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics["search/runs"] == 5
    assert parent.data.metrics["search/front"] == (found.drop_duplicates("job")["on_front"] == "True").sum()
    assert 0 < parent.data.metrics["search/hypervolume"] <= 1
    assert {each.path for each in client.list_artifacts(parent.info.run_id)} == {"search.csv", "search.png"}


def test_trials_share_training_and_are_what_they_are_alone(here: Path) -> None:
    assert execute([*PLAIN, "search.trials=4"]) == 0
    found = table(here / "results")
    runs = found[found["state"] == "finished"].drop_duplicates("job")
    asked, computed = runs["steps"].astype(int), runs["steps_computed"].astype(int)
    assert computed.sum() < 0.9 * asked.sum()
    assert (computed < asked).all()  # the float run has left what all have in common
    keys = [name for name in found.columns if name.startswith("schedule.")]
    chosen = runs.iloc[-1]
    changes = [f"{key}={chosen[key]}" for key in keys]
    alone = ["schedule=p_q_w", *QUICK, "tracking=none", "checkpoint.enabled=false", "results=alone", *changes]
    assert execute(alone) == 0
    [folder] = (here / "alone" / "runs").iterdir()
    same(folder, only_sweep(here / "results") / chosen["folder"])


def test_what_does_not_fit_together_is_infeasible_and_said_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*PLAIN, "search.trials=8", "search.reference=false"]) == 0
    printed = capsys.readouterr().out
    found = table(here / "results")
    wrong = found[found["state"] == "infeasible"]
    starts, ends = (
        found[f"schedule.events.prune_weight.{name}"].str.removesuffix("dur").astype(float) for name in ("start", "end")
    )
    assert len(wrong) > 0
    assert ((found["state"] == "infeasible") == (ends <= starts)).all()
    assert wrong["reason"].str.contains("after start").all()
    assert set(wrong["job"]) == {""}
    assert found[found["job"] != ""]["job"].nunique() == 8
    assert f"{len(wrong)} infeasible" in printed
    assert "after start" in printed


def test_a_search_without_a_feasible_value_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = "+search.space={schedule.events.prune_weight.end: {low: 0.1, high: 0.4, step: 0.1, unit: dur}}"
    command = ["schedule=p_w", "search=tpe", *QUICK, "tracking=none", "search.reference=false", late]
    assert execute(command) == 2
    assert re.search(r"qp-runner: search\.space=\(\d+ suggestions\): none is feasible", capsys.readouterr().err)


def test_failed_runs_are_reported_and_the_others_go_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = "+search.space={trainer.optimizer.lr: {choices: [0.1, 1e38]}}"
    assert execute(["schedule=p_w", "search=tpe", *QUICK, "tracking=none", rates]) == 0
    found = table(here / "results")
    by_rate = found.groupby("trainer.optimizer.lr")["state"].unique()
    assert {len(states) for states in by_rate} == {1}
    assert set(found["state"]) == {"finished", "failed"}
    assert found[found["state"] == "failed"]["reason"].str.contains("TrainingDivergedError").all()
    assert "failed, trial" in capsys.readouterr().out
    # all runs fail, the float run too
    all_fail = ["trainer.optimizer.lr=1e38", "+search.space={seed: {choices: [1, 2]}}", "results=x"]
    assert execute(["schedule=p_w", "search=tpe", *QUICK, "tracking=none", *all_fail]) == 1


def test_equal_suggestions_are_trained_once_and_small_spaces_end(here: Path) -> None:
    few = "+search.space={schedule.events.quantize_weight.to: {choices: [4, 8]}}"
    command = ["schedule=q_w", "search=nsga2", *QUICK, "tracking=none", "search.trials=50", few]
    assert execute(command) == 0
    found = table(here / "results")
    assert found["job"].nunique() == 2
    assert len(list(only_sweep(here / "results").glob("*/run.json"))) == 3
    for _, repeated in found.groupby("job"):
        assert len(set(repeated["val_accuracy"])) == 1


def test_the_same_command_trains_nothing_again_and_more_trials_continue(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*PLAIN, "search.trials=2"]) == 0
    folder = only_sweep(here / "results")
    before, first = table(here / "results"), (folder / "1" / "run.json").stat().st_mtime_ns
    capsys.readouterr()
    assert execute([*PLAIN, "search.trials=2", "search.batch=2"]) == 0
    assert f"{folder.name}: 2 trials ended before" in capsys.readouterr().err
    pd.testing.assert_frame_equal(table(here / "results"), before)
    assert execute([*PLAIN, "search.trials=4"]) == 0
    after = table(here / "results")
    assert len(set(after["job"]) - {""}) == 4
    pd.testing.assert_frame_equal(after[: len(before)].drop(columns="on_front"), before.drop(columns="on_front"))
    assert (folder / "1" / "run.json").stat().st_mtime_ns == first
    assert execute([*PLAIN, "search.trials=2", "checkpoint.fresh=true"]) == 0
    fresh = sorted((here / "results" / "sweeps").iterdir())
    assert len(fresh) == 2
    assert_same(read(fresh[1]), before)  # same seed, same suggestions


DYING = """
from qp_runner.search import study

steps, writes = [0], [0]
plain_append = study.append_line

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def step(self, number=1):
    steps[0] -= 1
    if steps[0] < 0:
        die()

def append(path, line, *, at):
    writes[0] -= 1
    end = plain_append(path, line, at=at)
    if writes[0] < 0:
        os.truncate(path, dice.randint(at, end))  # the line was being written
        die()
    return end

Silent.advance, study.append_line = step, append
dice = random.Random(7)
while True:
    steps[0], writes[0] = dice.choice([(10**9, dice.randint(1, 8)), (dice.randint(20, 60), 10**9)])
    code = ended(start(command))
    print(code)
    if code != -signal.SIGKILL:
        sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_a_search_killed_at_random_moments_is_the_one_it_would_have_been(here: Path) -> None:
    command = [*PLAIN, "search.trials=4", "search.batch=2", "checkpoint.every=2", "trainer.save_model=false"]
    assert execute([*command, "results=whole"]) == 0
    done = forked(DYING, command)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 4
    whole, killed = table(here / "whole"), table(here / "results")
    assert_same(killed, whole)
    for job in whole[whole["job"] != ""]["job"].unique():
        one, other = (only_sweep(here / name) / str(job) for name in ("whole", "results"))
        pd.testing.assert_frame_equal(metrics(one), metrics(other), check_exact=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_equal_searches_that_start_together_each_have_their_folder_and_a_copy_goes_on_alone(here: Path) -> None:
    command = [*PLAIN, "trainer.epochs=1", "trainer.save_model=false", "search.reference=false", "search.trials=1"]
    both_began = """
def wait(self, steps=1):
    while len(os.listdir("results/sweeps")) < 2:
        time.sleep(0.01)
Silent.advance = wait
sys.exit(any([ended(pid) for pid in [start(command) for _ in range(2)]]))
"""
    done = forked(both_began, command)
    assert done.returncode == 0, done.stderr
    one, other = sorted((here / "results" / "sweeps").iterdir())
    assert_same(read(one), read(other))
    shutil.copytree(here / "results", here / "copy")
    before = {path: path.read_bytes() for path in (here / "results").rglob("*") if path.is_file()}
    assert execute([*command, "search.trials=2", "results=copy"]) == 0
    assert {path: path.read_bytes() for path in (here / "results").rglob("*") if path.is_file()} == before
    assert read(here / "copy" / "sweeps" / other.name)["job"].nunique() > read(other)["job"].nunique()


def test_workers_change_nothing(here: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    command = [*PLAIN, "search.trials=2", "trainer.save_model=false", "search.reference=false"]
    assert execute([*command, "results=alone"]) == 0
    assert execute([*command, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 0
    assert_same(table(here / "results"), table(here / "alone"))


def test_the_command_line_wins_over_the_space_and_groups_can_be_searched(here: Path) -> None:
    space = "+search.space={schedule: {choices: [p_w, q_w]}, seed: {low: 0, high: 3}}"
    command = ["search=tpe", *QUICK, "tracking=none", "seed=5", "search.trials=2", space, "search.reference=false"]
    assert execute(command) == 0
    found = table(here / "results")
    assert "seed" not in found.columns
    assert sorted(found["order"].unique()) == ["P0.5(w)", "Q8(w)"]


def test_plan_shows_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", *PLAIN]) == 0
    assert "tpe makes 50 runs of 27 combinations" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (config_dir() / "experiment/search").glob("*")))
def test_every_space_can_be_searched(experiment: str) -> None:
    assert execute(["plan", f"experiment=search/{experiment}"]) == 0


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert execute(["search=tpe", *arguments, *QUICK, "tracking=none"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    return line


SEEDS = "+search.space={seed: {low: 0, high: 3}}"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "search.space={}: a range for at least one override key"),
        (["+search.space={seed: {low: 5}}"], "search.space.seed={'low': 5}: either choices or both low and high"),
        (["+search.space={seed: {low: 0, hihg: 3}}"], "search.space.seed.hihg=3: unknown key; did you mean high?"),
        (["+search.space={sede: {low: 0, high: 3}}"], "search.space.sede=0: no such key"),
        (["+search.space={schedule: {choices: [p_w, zz]}}"], "search.space.schedule=zz: no such choice; available"),
        (["+search.space={schedule.events.prune_weight.to: {low: 0.5, high: 1.2}}"], "=1.2: a sparsity from 0 to"),
        (["+search.space={schedule.events.prune_wight.to: {low: 0.5, high: 0.6}}"], "to=0.5: no such key"),
        ([SEEDS, "seed=1,2"], "one value a key, not 2 jobs"),
        ([SEEDS, "seed=1"], "search.space=(empty): a key that the command line"),
        ([SEEDS, "hydra.mode=RUN"], "search=tpe: needs hydra.mode=MULTIRUN"),
        (["search.trials=0"], "search.trials=0: should be greater than or equal to 1"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert line in said(arguments, capsys)


def test_hydras_own_sweeper_makes_no_search(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*PLAIN, "hydra/sweeper=basic"]) == 2
    assert "search=tpe: needs hydra.mode=MULTIRUN and hydra/sweeper=trunks" in capsys.readouterr().err


def test_without_optuna_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'qp_runner[search]'" in said([SEEDS], capsys)
