"""`qp-runner evaluate`: a finished run, measured again."""

import re
import shutil
from pathlib import Path

import pytest

import qp_runner
from qp_runner.data import ImageData, digits
from qp_runner.tracking.records import Record, run_folders
from stores import lacking, load, open_store, runs
from support import execute, metrics

QUICK = ["trainer.epochs=2", "trainer.batch_size=128", "trainer.progress=false", "schedule=p_q_wf"]


def halved(*, augment: bool = False) -> ImageData:
    """The digits, test images alone half as bright: other figures, and another mean if it were taken from them."""
    data = digits(augment=augment)
    for split in (data.train, data.test):
        split.images.div_(2, rounding_mode="floor")
    return ImageData(data.train, data.val, data.test, data.classes, data.mean / 2, data.std / 2)


def fewer(*, augment: bool = False) -> ImageData:
    data = digits(augment=augment)
    sets = [split.take(split.labels < 5) for split in (data.train, data.val, data.test)]
    return ImageData(*sets, data.classes[:5], data.mean, data.std)


def final(folder: Path) -> dict[str, float]:
    return {k: v for k, v in metrics(folder).groupby("name")["value"].last().items() if k.startswith("final/")}


def newest(run: Path) -> Path:
    return max((run / "evaluations").iterdir())


@pytest.fixture
def run(here: Path) -> Path:
    assert execute([*QUICK, "tracking=none"]) == 0
    [folder] = Path("results/runs").iterdir()
    return folder


def test_the_figures_are_the_very_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["evaluate", f"run={run}"]) == 0
    folder = newest(run)
    lengths = ("final/recovery_steps", "final/first_event_step", "final/total_steps", "final/steps_per_epoch")
    assert final(folder) == {name: value for name, value in final(run).items() if name not in lengths}
    said = capsys.readouterr().out
    assert re.search(rf"^accuracy +{final(run)['final/accuracy']:.6g}$", said, re.MULTILINE)
    record = load(folder)
    assert record.status == "FINISHED"
    assert "schedule" not in record.tags
    assert record.tags["evaluated"] == run.name


def test_other_data_are_prepared_as_those_of_training(run: Path) -> None:
    command = ["evaluate", f"run={run}", f"data.factory._target_={__name__}.halved", "data.name=dark"]
    assert execute(command) == 0
    loaded = qp_runner.load(run)
    test = halved().test
    right = (loaded(test.images).argmax(1) == test.labels).sum()
    assert final(newest(run))["final/accuracy"] == 100 * int(right) / len(test)
    assert load(newest(run)).tags["data"] == "dark"
    assert final(newest(run))["final/accuracy"] != final(run)["final/accuracy"]


def test_values_reach_what_is_made_of_them(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CIFAR-10's folder is named once, by data.root, and used by its factory; a group is chosen as for a run."""
    assert execute(["evaluate", f"run={run}", "data=cifar10", "data.root=nowhere"]) == 2
    assert re.search(r"data\.root=nowhere: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], r"^qp-runner: run=\?: one finished run: qp-runner evaluate run=DIR"),
        (["run=nowhere"], r"run=nowhere: the folder of a finished run"),
        (["run=RUN", "nonsense.key=1"], r"nonsense\.key=1: no such key in this run's configuration"),
        (["run=RUN", "trainer.speed=1"], r"trainer\.speed=1: no such key"),
        (["run=RUN", "seed=1,2"], r"seed=1,2: one value"),
        (["run=RUN", "experiment=orders/digits"], r"experiment=orders/digits: no such key"),
        (["run=RUN", "results=other"], r"results=other: \S+/results, which the run is in, or nothing at all"),
        (["run=RUN", "data=zzz"], r"data=zzz: no such choice"),
        (["run=RUN", "model.networks.network.width=4"], r"run=\S+: a run whose networks are built as they were"),
        (["run=RUN", f"data.factory._target_={__name__}.fewer"], r"data=digits: data of the run's 10 classes"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert execute(["evaluate", *(each.replace("RUN", str(run)) for each in arguments)]) == 2
    [said] = capsys.readouterr().err.strip().splitlines()
    assert re.search(line, said), said


def test_in_mlflow_it_stands_below_the_run_and_a_report_passes_it_over(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["-m", *QUICK, "seed=0,1", "schedule=p_q_wf"]) == 0
    [sweep] = Path("results/sweeps").iterdir()
    assert execute(["evaluate", f"run={sweep}/1"]) == 0
    folders = list(run_folders(sweep))
    assert len(folders) == 4
    client = open_store(here / "results").client
    assert lacking(client, *folders) == []
    by_id = {each.data.tags["qp_runner.id"]: each for each in runs(client)}

    def of(folder: Path) -> str:
        record = Record.load(folder)
        assert record is not None
        return str(by_id[record.id].info.run_id)

    evaluation = by_id[load(newest(sweep / "1")).id]
    assert evaluation.data.tags["mlflow.parentRunId"] == of(sweep / "1")
    from qp_runner.report.read import read

    assert len(read("results/mlflow.db", sweep="all").runs) == 2
    assert execute(["-m", *QUICK, "seed=0,1", "schedule=p_q_wf"]) == 0
    assert "2 of 2 jobs finished before" in capsys.readouterr().err


def test_a_run_that_was_moved_is_measured_where_it_lies(run: Path, here: Path) -> None:
    shutil.move(run, here / "elsewhere")
    assert execute(["evaluate", "run=elsewhere", "trainer.device=cpu"]) == 0
    assert final(newest(here / "elsewhere"))["final/accuracy"] == final(here / "elsewhere")["final/accuracy"]
