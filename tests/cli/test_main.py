"""The command line as a person uses it: exit codes, what is said, what is left on disk."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qp_runner.config.instantiate import instantiate
from qp_runner.run.labels import schedule_label, variant
from stores import lacking, load, open_store, runs
from support import execute, metrics

QUICK = ["tracking=none", "trainer.epochs=2", "trainer.batch_size=128", "trainer.progress=false"]


def only_run(root: Path) -> Path:
    [folder] = (root / "results" / "runs").iterdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["schedule=p_q_x"], r"schedule=p_q_x: no such choice; did you mean .*p_q_w.*available: float"),
        (["schedule.events.prune_weight.to=1.2"], r"schedule\.events\.prune_weight\.to=1\.2: a sparsity from 0"),
        (["schedule.events.quantize_weight.start=99ep"], r"quantize_weight\.start=99ep: at most"),
        (["model.sites.activation=[nothing*]"], r"model\.sites\.activation=nothing\*: matches nothing"),
        (["data=cifar10", "data.root=empty"], r"data\.root=empty: .*(binary|download)"),
        (["model=vgg11"], r"model=\S+: .*fit.*1×8×8"),
        (["model.networks.network.width=wide"], r"model"),
        (["+model.networks.network.depth=3"], r"model.*depth"),
        (["trainer.epochs=-1"], r"trainer\.epochs=-1: should be greater than or equal to 0"),
        (["trainer.batch_size=100000"], r"trainer\.batch_size=100000"),
        (["trainer.optimizer._target_=torch.optim.Nope"], r"trainer\.optimizer=torch\.optim\.Nope"),
        (["trainer.optimizer.speed=3"], r"trainer\.optimizer\.speed=3: no such key"),
        (["+trainer.optimizer.speed=3"], r"trainer\.optimizer=SGD: .*speed"),
        (["task=super_resolution", "data=photographs"], r"model\.networks\.network=SmallCNN.*scale"),
        (["data=photographs", "task=super_resolution", "data.scale=7"], r"data\.scale=7: one of 2, 3, 4"),
        (["task=super_resolution", "data=t91_set5", "data.root=empty"], r"data\.train=empty/T91: no such folder"),
        (["nonsense=1"], r"nonsense=1: no such key"),
        (["-m", "schedule=p_q_wf,zzz"], r"schedule=zzz: no such choice"),
        (["experiment=orders/digits", "seed=0,1", "nonsense.key=1"], r"nonsense\.key=1: no such key"),
        (["experiment=orders/digits", "seed=0,1", "data=zzz"], r"data=zzz: no such choice"),
        (["seed=0,1"], r"Ambiguous value for argument 'seed=0,1' .* add --multirun"),
        (["results=file/here"], r"file/here/runs/\S+: Not a directory; results=DIR says where to write"),
        (
            ["-m", "results=file/here", "checkpoint.enabled=false"],
            r"file/here/sweeps/\S+: Not a directory",
        ),
        (
            ["seed=0", "-m", "schedule.events.prune_weight.to=0.5,1.5"],
            r"schedule\.events\.prune_weight\.to=1\.5",
        ),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "empty").mkdir()
    (here / "file").touch()
    assert execute([*arguments, "tracking=none", "trainer.progress=false"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(said, lines[0]), lines[0]


def test_a_run_leaves_records_in_plain_files(here: Path) -> None:
    assert execute(["schedule=p_q_wf", "seed=3", *QUICK]) == 0
    folder = only_run(here)
    record = load(folder)
    assert record.status == "FINISHED"
    assert record.tags["schedule"] == "p_q_wf"
    assert record.tags["order"] == "P0.5(w,f) → Q8(w,f)"
    assert record.params["trainer.epochs"] == "2"
    values = metrics(folder).groupby("name")["value"].last()
    assert values["final/bits_weight"] == values["final/bits_activation"] == 8
    assert values["final/sparsity_weight"] == pytest.approx(0.5, abs=0.01)
    assert values["final/pd_total"] == pytest.approx(values["final/accuracy"] / values["final/footprint_total_mb"])
    for name in ("config.yaml", "schedule.png", "stages.json", "sites.csv"):
        assert (folder / "artifacts" / name).stat().st_size > 0
    assert (folder / "model.safetensors").stat().st_size > 0


def interrupted(how: Callable[[int, signal.Signals], None], number: signal.Signals, *arguments: str) -> tuple[int, str]:
    """Ends a command that is training, by a signal; returns its exit code and what it said."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it
    command = [sys.executable, "-c", f"{code}; from qp_runner.__main__ import main; main()", *arguments]
    endless = ["trainer.epochs=100000", "trainer.progress=false"]
    process = subprocess.Popen([*command, *endless], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not any(len(metrics(each.parent)) >= 10 for each in Path().glob("results/**/metrics.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        how(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_run_that_is_told_to_end_is_killed_and_keeps_what_it_logged(here: Path) -> None:
    code, said = interrupted(os.kill, signal.SIGTERM, "tracking=none")
    assert code == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert load(only_run(here)).status == "KILLED"
    assert len(metrics(only_run(here))) >= 10


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_a_terminal_leaves_the_whole_record_in_mlflow_too(here: Path) -> None:
    code, said = interrupted(os.killpg, signal.SIGINT, "-m", "seed=0,1")  # as a terminal does: to every process
    assert code == 130
    assert "Traceback" not in said
    [sweep] = (here / "results" / "sweeps").iterdir()
    assert [load(folder).status for folder in (sweep, sweep / "0")] == ["KILLED", "KILLED"]
    client = open_store(here / "results").client
    assert lacking(client, sweep, sweep / "0") == []
    assert len(runs(client)) == 2


def test_help_is_worth_reading(here: Path) -> None:
    said = subprocess.run([sys.executable, "-m", "qp_runner", "--help"], capture_output=True, text=True, check=True)
    for part in ("qp-runner plan", "schedule=q_p_wf seed=1", "schedule/controlled", "trainer"):
        assert part in said.stdout


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
    assert load(only_run(here)).status == "FINISHED"


@pytest.mark.skipif(os.name == "nt", reason="users of POSIX systems")
def test_a_user_without_a_name_and_a_home_can_run(here: Path) -> None:
    code = "import os; os.getuid = lambda: 2**31 - 7; from qp_runner.__main__ import main; main()"
    nameless = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *QUICK], capture_output=True, text=True, env=nameless)
    assert done.returncode == 0, done.stderr
    assert load(only_run(here)).status == "FINISHED"


@pytest.mark.parametrize("command", [[], ["-m"]])
def test_threads_hold_from_the_first_use_of_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    used = []

    def counted(name: str, factory: Any) -> Any:
        used.append(torch.get_num_threads())
        return instantiate(name, factory)

    monkeypatch.setattr("qp_runner.run.task.instantiate", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert execute([*command, "trainer.threads=1", *QUICK]) == 0
    finally:
        torch.set_num_threads(before)
    assert set(used) == {1}


def test_the_flag_of_a_sweep_may_stand_anywhere(here: Path) -> None:
    assert execute(["schedule=float", *QUICK, "-m", "seed=1,2"]) == 0
    [sweep] = (here / "results" / "sweeps").iterdir()
    assert [load(sweep / job).tags["seed"] for job in "01"] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["seed=0", "-m", "schedule=p_q_wf,float"], ("P0.5(w,f) → Q8(w,f)", "trunk of 2 runs")),
        (["schedule=p_q_wf"], ("P0.5(w,f) → Q8(w,f)", "recovery", "stage", "ideal", "stored")),
        (["data=cifar10", "data.root=nowhere", "model=mobilenetv2"], ("recovery", "unknown without the data")),
    ],
)
def test_plan_draws_without_training_and_without_the_data(
    arguments: list[str], parts: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", *arguments]) == 0
    text = capsys.readouterr().out
    for part in parts:
        assert part in text
    assert not (here / "results").exists()


def test_a_folder_of_ones_own_brings_schedules(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "mine" / "schedule"
    folder.mkdir(parents=True)
    (folder / "late.yaml").write_text("events:\n  q: {op: quantize, target: weight, to: 4, start: 0.9dur}\n")
    assert execute(["--config-dir", "mine", "schedule=late", *QUICK]) == 0
    assert load(only_run(here)).tags["order"] == "Q4(w)"


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
