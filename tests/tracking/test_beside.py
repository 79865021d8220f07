"""A process beside this one: what it is asked for happens in order, comes back, and hurts nobody when it fails."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calls import append, raise_what_cannot_be_received
from qp_runner.errors import ConfigError
from qp_runner.tracking import MlflowTracker, RunInfo, mlflow_tracker, prepare, start_parent
from qp_runner.tracking.beside import Beside, EndedError, current, later, started, where_mlflow_is

INFO = RunInfo("p_q_wf · seed 0", "classification", {"order": "P → Q", "seed": "0"}, {"trainer.epochs": "30"})


@pytest.fixture(scope="module")
def helper() -> Iterator[Beside]:
    with started() as beside:
        yield beside


def test_functions_are_called_in_another_process_in_the_order_in_which_they_were_asked_for(
    helper: Beside, tmp_path: Path
) -> None:
    file = tmp_path / "order"
    for number in range(50):
        helper.send(append, file, f"{number} ")
    assert helper.ask(os.getpid) != os.getpid()
    assert file.read_text(encoding="utf-8").split() == [str(number) for number in range(50)]


def test_what_a_function_raises_is_raised_here(helper: Beside) -> None:
    with pytest.raises(ConfigError, match=r"tracking.uri=nowhere://: .*an MLflow store that can be opened"):
        prepare("nowhere://", "classification")
    with pytest.raises(FileNotFoundError):
        helper.ask(os.stat, "/nowhere/at/all")


def test_results_and_errors_that_cannot_be_sent_are_told_in_words(helper: Beside) -> None:
    with pytest.raises(RuntimeError, match="can't be sent"):
        helper.ask(memoryview, b"1")
    with pytest.raises(RuntimeError, match="HTTPError"):
        helper.ask(raise_what_cannot_be_received)


def test_an_answer_that_nobody_waits_for_any_more_is_passed_over(
    helper: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cut_off = pickle.load, []

    def load(file: Any) -> Any:
        if not cut_off:
            cut_off.append(True)
            raise KeyboardInterrupt
        return plain(file)

    monkeypatch.setattr(pickle, "load", load)
    with pytest.raises(KeyboardInterrupt):
        helper.ask(len, "four")
    assert helper.ask(len, "three") == 5


def test_more_than_a_pipe_holds_makes_nobody_wait(helper: Beside, tmp_path: Path) -> None:
    begun = time.monotonic()
    helper.send(time.sleep, 2.0)
    for _ in range(100):
        helper.send(append, tmp_path / "much", "x" * 10_000)
    assert time.monotonic() - begun < 1.5
    helper.ask(len, "")
    assert (tmp_path / "much").stat().st_size == 1_000_000


def test_signals_for_the_run_do_not_end_it(helper: Beside) -> None:
    process = helper.ask(os.getpid)
    assert helper.ask(os.getsid, 0) != os.getsid(0)  # Ctrl-C goes to the session of the terminal
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process, number)
    assert helper.ask(os.getpid) == process


def test_a_run_is_recorded_as_it_is_without_one(helper: Beside, uri: str, client: Any, tmp_path: Path) -> None:
    parent = start_parent(uri, "classification", "sweep", {})
    (tmp_path / "plot.png").write_bytes(b"png")
    recorded = []
    for make in (mlflow_tracker, MlflowTracker):
        tracker = make(uri, INFO, parent)
        for step in range(1200):
            tracker.metrics({"train/loss": 1 / (step + 1)}, step=step)
        tracker.text("config.yaml", "seed: 0\n")
        assert tracker.artifact(tmp_path / "plot.png", "plots") == tmp_path / "plot.png"
        tracker.flush()
        run_id = tracker.run_id
        tracker.finish("FAILED", "ValueError: no")
        tracker.finish("FINISHED")  # changes nothing
        helper.ask(len, "")
        run = client.get_run(run_id)
        history = [(each.step, each.value) for each in client.get_metric_history(run_id, "train/loss")]
        files = sorted(each.path for each in client.list_artifacts(run_id))
        recorded.append((run.info.run_name, run.info.status, run.data.params, run.data.tags, history, files))
    assert recorded[0] == recorded[1]
    assert len(recorded[0][4]) == 1200
    assert recorded[0][5] == ["config.yaml", "error.txt", "plots"]


def test_records_name_the_command_of_this_process(
    helper: Beside, uri: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/qp-runner", "seed=7"])
    run_id = start_parent(uri, "classification", "sweep", {})
    assert client.get_run(run_id).data.tags["command"] == "qp-runner seed=7"


def test_where_there_is_none_all_happens_here(tmp_path: Path) -> None:
    code = where_mlflow_is(os.getpid)
    alone = _without_current(lambda: (current(), code(), later(append, tmp_path / "a", "here")))
    assert alone == (None, os.getpid(), None)
    assert (tmp_path / "a").read_text(encoding="utf-8") == "here"


def test_who_is_out_of_step_is_not_asked_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_in_half(_file: object) -> None:
        raise pickle.UnpicklingError("pickle data was truncated")

    def out_of_step() -> None:
        with started() as other, monkeypatch.context() as patch:
            patch.setattr(pickle, "load", cut_in_half)
            with pytest.raises(EndedError):
                other.ask(len, "")
            assert current() is None
            assert prepare(uri, "classification")  # here

    _without_current(out_of_step)


def test_closing_waits_for_what_was_asked_for(tmp_path: Path) -> None:
    other = Beside()
    other.send(time.sleep, 0.5)
    other.send(append, tmp_path / "last", "done")
    other.close()
    assert (tmp_path / "last").read_text(encoding="utf-8") == "done"


def test_its_end_costs_a_warning_and_the_work_goes_on_here(
    uri: str, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def without() -> None:
        with started() as other:
            tracker = mlflow_tracker(uri, INFO)
            run_id = tracker.run_id
            os.kill(other.ask(os.getpid), signal.SIGKILL)
            with pytest.raises(EndedError):
                other.ask(len, "")
            for step in range(3):
                tracker.metrics({"train/loss": 1.0}, step=step)
            tracker.flush()
            tracker.finish("FINISHED")
            assert tracker.run_id == ""
            assert prepare(uri, "classification") == client.get_run(run_id).info.experiment_id

    _without_current(without)
    assert [each.getMessage() for each in caplog.records].count(
        "the process beside this one has ended: MLflow lacks the rest, the run's files have it"
    ) == 1


def _without_current(call: Callable[[], Any]) -> Any:
    """Calls as if the module's process did not exist."""
    from qp_runner.tracking import beside

    before, beside._current = beside._current, None
    try:
        return call()
    finally:
        beside._current = before
