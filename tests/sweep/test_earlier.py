"""A finished job is skipped only where it would start from the same data and initial weights again."""

import importlib
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from qp_runner.config.compose import jobs
from qp_runner.sweep import earlier
from qp_runner.sweep.earlier import finished
from qp_runner.sweep.outline import outline, sharing
from support import execute, metrics

QUICK = ["tracking=none", "trainer.epochs=1", "trainer.batch_size=128", "trainer.progress=false", "schedule=float"]
numbers = count()
CODE = """
import threading
from dataclasses import replace
from pathlib import Path

import torch

from qp_runner.data import digits
from qp_runner.models import SmallCNN


def brightness(name):
    return float(Path(name).read_text())


def data(*, augment, name="brightness"):
    given = digits(augment=augment)
    images = (given.train.images * brightness(name)).byte()
    return replace(given, train=replace(given.train, images=images))


def network(**arguments):
    made = SmallCNN(**arguments)
    with torch.no_grad():
        made.fc.weight.mul_(brightness("weights"))
    return made


class Locked(SmallCNN):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.lock = threading.Lock()
"""


@pytest.fixture
def foreign(here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a data set, and a network, that depend on a file."""
    name = f"foreign_data{next(numbers)}"
    (here / f"{name}.py").write_text(CODE)
    for file in ("brightness", "other", "weights"):
        (here / file).write_text("1.0")
    monkeypatch.syspath_prepend(here)
    importlib.invalidate_caches()
    return name


def only_sweep(root: Path) -> Path:
    [folder] = (root / "sweeps").iterdir()
    return folder


Said = Callable[[list[str]], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command; returns what it said."""

    def run(command: list[str]) -> str:
        capsys.readouterr()
        assert execute(command) == 0
        return capsys.readouterr().err

    return run


def test_only_the_jobs_with_changed_data_run_again(here: Path, foreign: str, said: Said) -> None:
    names = "+data.factory.name=brightness,other"
    command = ["-m", names, f"data.factory._target_={foreign}.data", *QUICK]
    said(command)
    folder = only_sweep(here / "results")
    before = [metrics(folder / number) for number in "01"]
    assert said(command).count("finished before, skipped") == 2
    (here / "other").write_text("0.0")  # black images
    again = said(command)
    assert "1 of 2 jobs finished before" in again
    assert again.count("finished before, skipped") == 1
    assert again.count("finished before, runs again, as its data or initial weights are not known to be the same") == 1
    assert only_sweep(here / "results") == folder
    assert metrics(folder / "0").equals(before[0])
    assert not metrics(folder / "1").equals(before[1])
    assert said(command).count("finished before, skipped") == 2


def test_changed_initial_weights_run_again(here: Path, foreign: str, said: Said) -> None:
    command = ["-m", "seed=0,1", f"model.networks.network._target_={foreign}.network", *QUICK]
    said(command)
    assert said(command).count("finished before, skipped") == 2
    (here / "weights").write_text("0.5")
    assert said(command).count("finished before, skipped") == 0


def test_a_record_that_does_not_say_what_its_run_started_from_is_not_trusted(here: Path, said: Said) -> None:
    command = ["-m", "seed=0,1", *QUICK]
    said(command)
    path = only_sweep(here / "results") / "0" / "run.json"
    record = json.loads(path.read_text())
    assert len(record["tags"].pop("content")) == 64
    path.write_text(json.dumps(record))
    again = said(command)
    assert "[1/2] float · seed 0: finished before, runs again" in again
    assert "[2/2] float · seed 1: finished before, skipped" in again


def test_runs_whose_content_is_unknown_share_nothing_and_say_so_once(
    here: Path, foreign: str, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["-m", "schedule=q_w,q_wf", f"model.networks.network._target_={foreign}.Locked", *QUICK[:-1]]
    first = said(command)
    problem = "networks.network.lock is a lock, which can't be digested"
    assert f"runs share nothing: {problem}" in first
    assert "2 runs ask for 2 epochs; 2 are computed (1.00 × less), in waves of 2" in first
    warnings = [record.message for record in caplog.records if problem in record.message]
    assert len(warnings) == 1
    assert warnings[0].startswith("this run shares nothing and can't be resumed: ")
    assert not list((here / "results").rglob("*.ckpt"))
    again = said(command)
    assert again.count("finished before, runs again") == 2
    assert "were stored" not in again


def test_data_are_built_once_for_a_thousand_finished_jobs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _ = jobs(["seed=0,1,2,3", *QUICK], multirun=True)
    configs = [job.config for job in planned for _ in range(250)]
    calls = {"data": 0, "task": 0}

    def counting(name: str, plain: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return plain(*arguments, **options)

        return call

    contents = dict(earlier.contents({number: job.config for number, job in enumerate(planned)}))
    for number, config in enumerate(configs):
        (here / str(number)).mkdir()
        content = contents[config.seed].digest
        record = {"name": "", "experiment": "", "status": "FINISHED", "start_time": "", "tags": {"content": content}}
        (here / str(number) / "run.json").write_text(json.dumps(record))
        (here / str(number) / "metrics.csv").write_text("step,name,value,time\n")
    monkeypatch.setattr(earlier, "build_data", counting("data", earlier.build_data))
    monkeypatch.setattr(earlier, "build_task", counting("task", earlier.build_task))
    found = finished(here, configs)
    assert found.same == frozenset(range(1000))
    assert calls == {"data": 1, "task": 4}


def test_a_plan_counts_on_no_sharing_that_cannot_be(foreign: str) -> None:
    locked = f"model.networks.network._target_={foreign}.Locked"
    made = outline(jobs(["schedule=q_w,q_wf", locked], multirun=True)[0])
    assert [len(wave) for wave in made.waves] == [2]
    assert any("share nothing: networks.network.lock" in line for line in sharing(made))


def test_a_search_over_changed_data_begins_anew(here: Path, foreign: str, said: Said) -> None:
    pytest.importorskip("optuna")
    space = "+search.space={schedule.events.quantize_weight.to: {choices: [4, 8]}}"
    command = ["search=tpe", "search.trials=2", "search.startup=1", space, f"data.factory._target_={foreign}.data"]
    command += [*QUICK[:-1], "schedule=q_w"]
    said(command)
    assert "goes on with" in said(command)
    (here / "brightness").write_text("0.0")
    assert "goes on with" not in said(command)
    assert len(list((here / "results" / "sweeps").iterdir())) == 2
