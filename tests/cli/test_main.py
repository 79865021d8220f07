"""The command line as a person uses it: exit codes, what is said, what is left on disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from qp_runner.run.labels import schedule_label, variant
from support import execute

QUICK = ["tracking=none", "trainer.epochs=2", "trainer.batch_size=128", "trainer.progress=false"]


def only_run(root: Path) -> Path:
    [folder] = (root / "results" / "runs").iterdir()
    return folder


def metrics(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "metrics.csv")
    return table[~table["name"].str.startswith("time/")][["step", "name", "value"]].reset_index(drop=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["schedule=p_q_x"], r"schedule=p_q_x: no such choice; did you mean .*p_q_w.*available: float"),
        (["schedule=controlled/p_p"], r"schedule=controlled/p_p: no such choice"),
        (["schedule.events.prune_weight.to=1.2"], r"schedule\.events\.prune_weight\.to=1\.2: a sparsity from 0"),
        (["schedule.events.quantize_weight.to=1"], r"schedule\.events\.quantize_weight\.to=1: whole bits from 2 to 16"),
        (["schedule.events.quantize_weight.start=1.2dur"], r"quantize_weight\.start=1\.2dur: at most 1dur"),
        (["schedule.events.quantize_weight.start=99ep"], r"quantize_weight\.start=99ep: at most"),
        (["model.sites.activation=[nothing*]"], r"model\.sites\.activation=nothing\*: matches nothing"),
        (["data=cifar10", "data.root=empty"], r"data\.root=empty: .*(binary|download)"),
        (["model=vgg11"], r"model=\S+: .*fit.*1×8×8"),
        (["model.networks.network.width=wide"], r"model"),
        (["+model.networks.network.depth=3"], r"model.*depth"),
        (["trainer.epochs=0"], r"trainer\.epochs=0: should be greater than or equal to 1"),
        (["+trainer.epoch=3"], r"trainer\.epoch=3: unknown key; did you mean epochs\?"),
        (["trainer.batch_size=100000"], r"trainer\.batch_size=100000"),
        (["trainer.optimizer._target_=torch.optim.Nope"], r"trainer\.optimizer=torch\.optim\.Nope"),
        (["trainer.optimizer.speed=3"], r"trainer\.optimizer\.speed=3: no such key"),
        (["+trainer.optimizer.speed=3"], r"trainer\.optimizer=SGD: .*speed"),
        (["task=super_resolution"], r"data=ImageData: super_resolution takes"),
        (["data=photographs"], r"data=SuperResolutionData: classification takes"),
        (["task=super_resolution", "data=photographs"], r"model\.networks\.network=SmallCNN.*scale"),
        (["data=photographs", "task=super_resolution", "data.scale=7"], r"data\.scale=7: one of 2, 3, 4"),
        (["task=super_resolution", "data=t91_set5", "data.root=empty"], r"data\.train=empty/T91: no such folder"),
        (["nonsense=1"], r"nonsense=1: no such key"),
        (["schedule=[a"], r"command line=schedule=\[a"),
        (["-m", "schedule=glob(zzz*)"], r"command line=schedule=glob\(zzz\*\) .*asks for no job"),
        (["-m", "schedule=p_q_wf,zzz"], r"schedule=zzz: no such choice"),
        (["-m", "schedule.events.prune_weight.to=0.5,1.5"], r"schedule\.events\.prune_weight\.to=1\.5"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "empty").mkdir()
    assert execute([*arguments, "tracking=none", "trainer.progress=false"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]


def test_a_run_leaves_records_in_plain_files(here: Path) -> None:
    assert execute(["schedule=p_q_wf", "seed=3", *QUICK]) == 0
    folder = only_run(here)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert record["tags"]["schedule"] == "p_q_wf"
    assert record["tags"]["order"] == "P0.5(w,f) → Q8(w,f)"
    assert record["params"]["trainer.epochs"] == "2"
    values = metrics(folder).groupby("name")["value"].last()
    assert values["final/bits_weight"] == values["final/bits_activation"] == 8
    assert values["final/sparsity_weight"] == pytest.approx(0.5, abs=0.01)
    assert values["final/pd_total"] == pytest.approx(values["final/accuracy"] / values["final/footprint_total_mb"])
    for name in ("config.yaml", "schedule.png", "stages.json", "sites.csv"):
        assert (folder / "artifacts" / name).stat().st_size > 0
    assert (folder / "model.pt").stat().st_size > 0


def test_the_same_command_gives_the_same_numbers(here: Path) -> None:
    assert execute(["schedule=q_p_wf", *QUICK]) == 0
    assert execute(["schedule=q_p_wf", *QUICK]) == 0
    first, second = sorted((here / "results" / "runs").iterdir())
    pd.testing.assert_frame_equal(metrics(first), metrics(second), check_exact=True)


def test_a_sweeps_jobs_are_the_runs_made_alone(here: Path) -> None:
    assert execute(["schedule=q_p_wf", "seed=1", *QUICK]) == 0
    assert execute(["-m", "schedule=float,q_p_wf", "seed=0,1", *QUICK]) == 0
    [sweep] = (here / "results" / "sweeps").iterdir()
    assert json.loads((sweep / "sweep.json").read_text())["jobs"] == 4
    pd.testing.assert_frame_equal(metrics(only_run(here)), metrics(sweep / "3"), check_exact=True)


def test_a_failed_job_is_recorded_and_the_others_go_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-m", "trainer.optimizer.lr=1e38,0.1", *QUICK]) == 1
    [sweep] = (here / "results" / "sweeps").iterdir()
    records = [json.loads((sweep / str(job) / "run.json").read_text()) for job in (0, 1)]
    assert [record["status"] for record in records] == ["FAILED", "FINISHED"]
    assert "TrainingDivergedError" in records[0]["error"]
    assert "[1/2]" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_killed_and_keeps_what_it_logged(here: Path, how: signal.Signals) -> None:
    foreground = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it
    code = f"{foreground}; from qp_runner.__main__ import main; main()"
    arguments = ["trainer.epochs=100000", "trainer.progress=false", "tracking=none"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(here.glob("results/runs/*/metrics.csv")) or len(metrics(only_run(here))) < 10:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert json.loads((only_run(here) / "run.json").read_text())["status"] == "KILLED"
    assert len(metrics(only_run(here))) >= 10


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_a_terminal_leaves_the_whole_record_in_mlflow_too(here: Path) -> None:
    arguments = ["-m", "seed=0,1", "trainer.epochs=100000", "trainer.progress=false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "qp_runner", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (found := list(here.glob("results/sweeps/*/0/metrics.csv"))) or len(metrics(found[0].parent)) < 10:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the foreground
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{here / 'results' / 'mlflow.db'}")
    runs = store.search_runs([each.experiment_id for each in store.search_experiments()])
    assert [run.info.status for run in runs] == ["KILLED", "KILLED"]  # the run, and the parent
    [child] = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    written = metrics(found[0].parent)
    for name, rows in written.groupby("name"):
        assert len(store.get_metric_history(child.info.run_id, str(name))) == len(rows)


def test_a_sweep_in_mlflow_is_one_parent_with_its_children(here: Path) -> None:
    quick = [each for each in QUICK if each != "tracking=none"]
    assert execute(["-m", "schedule=float,p_q_w", "seed=0", *quick]) == 0
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{here / 'results' / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("classification")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["schedule"] for run in children} == {"float", "p_q_w"}
    assert all(run.data.metrics["final/accuracy"] > 10 for run in children)


def test_help_is_worth_reading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute(["--help"])
    assert ended.value.code in (0, None)
    text = capsys.readouterr().out
    for part in ("qp-runner plan", "schedule=q_p_wf seed=1", "schedule/controlled", "trainer"):
        assert part in text


def test_super_resolution_leaves_pictures_and_its_gain(here: Path) -> None:
    cut = ["trainer.epochs=1", "data.stride=60", "tracking=none", "trainer.progress=false", "seed=0"]
    assert execute(["experiment=orders/super_resolution", "schedule=float", *cut]) == 0
    [run] = (here / "results" / "sweeps").glob("*/0")
    pictures = sorted(path.name for path in (run / "artifacts" / "pictures").iterdir())
    assert pictures == [f"{name}__bicubic__output__original.png" for name in ("camera", "coffee", "text")]
    values = metrics(run).groupby("name")["value"].last()
    assert values["final/psnr"] > 0
    assert values["final/bicubic_psnr"] == pytest.approx(29.2, abs=0.2)


def test_a_run_with_plain_files_needs_no_rich_no_mlflow_and_no_scikit_image(here: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['rich', 'mlflow', 'skimage']))"
    code = f"{block}; from qp_runner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *QUICK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((only_run(here) / "run.json").read_text())["status"] == "FINISHED"


def test_plan_draws_without_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "schedule=p_q_wf"]) == 0
    text = capsys.readouterr().out
    for part in ("P0.5(w,f) → Q8(w,f)", "recovery", "stage", "ideal", "stored"):
        assert part in text
    assert not (here / "results").exists()


def test_plan_without_the_data_still_draws(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "data=cifar10", "data.root=nowhere", "model=mobilenetv2"]) == 0
    text = capsys.readouterr().out
    assert "recovery" in text
    assert "unknown without the data" in text


def test_a_folder_of_ones_own_brings_schedules(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "mine" / "schedule"
    folder.mkdir(parents=True)
    (folder / "late.yaml").write_text("events:\n  q: {op: quantize, target: weight, to: 4, start: 0.9dur}\n")
    assert execute(["--config-dir", "mine", "schedule=late", *QUICK]) == 0
    assert json.loads((only_run(here) / "run.json").read_text())["tags"]["order"] == "Q4(w)"


def test_changed_events_show_in_the_label_and_other_changes_in_the_variant() -> None:
    overrides = ["schedule=p_q_wf", "schedule.events.prune_weight.to=0.75", "seed=1", "compress.scale=float"]
    assert schedule_label("p_q_wf", overrides) == "p_q_wf[prune_weight.to=0.75]"
    assert schedule_label("p_q_wf", ["seed=1"]) == "p_q_wf"
    assert schedule_label("p_q_wf", ["~schedule.events"]) == "float"
    assert variant(overrides) == "compress.scale=float"


def test_a_folder_of_ones_own_may_not_hide_files_behind_ours(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine" / "schedule").mkdir(parents=True)
    (here / "mine" / "schedule" / "p_q_wf.yaml").write_text("events: {}", encoding="utf-8")
    for command in ([], ["plan"]):
        assert execute([*command, "--config-dir", "mine", *QUICK]) == 2
        assert "--config-dir=mine: files of other names than" in capsys.readouterr().err
        assert execute([*command, "--config-dir", "absent", *QUICK]) == 2
        assert "--config-dir=absent: a folder that is there" in capsys.readouterr().err


def test_the_package_is_a_command(here: Path) -> None:
    said = subprocess.run([sys.executable, "-m", "qp_runner", "--help"], capture_output=True, text=True, check=True)
    assert "qp-runner" in said.stdout
