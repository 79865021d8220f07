"""The process that follows a command: what is in the store while runs go on, at the end, and after an accident."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from qp_runner.errors import ConfigError
from qp_runner.tracking import Follower, following
from qp_runner.tracking.follow import FAILING_S, STUCK_S, FolderFollower, Task, follow
from qp_runner.tracking.store import Store
from stores import INFO, SWEEP, ended, fork, lacking, load, open_store, runs, start, write

WAIT_S = 120  # for what takes seconds; only a failing test waits so long
WORKER = """
import sys
from pathlib import Path
from qp_runner.tracking import RunFiles, RunInfo
run = RunFiles(Path(sys.argv[1]), RunInfo(sys.argv[1], "classification"), store="default")
run.text("config.yaml", "")
for step in range(500):
    run.metrics({"train/loss": step / 7, "val/accuracy": float(step)}, step=step)
run.finish("FINISHED")
"""
COMMAND = """
import sys, time
from pathlib import Path
from qp_runner.tracking import RunFiles, RunInfo, following
results = Path(sys.argv[1])
folder = results / "runs/a"
uri = f"sqlite:///{results / 'mlflow.db'}"
with following(uri, experiment="classification", results=results) as follower:
    follower.follow(folder)
    follower.check()
    run = RunFiles(folder, RunInfo("a", "classification"), store="default")
    run.text("config.yaml", "")
    run.metrics({"train/loss": 0.5}, step=1)
    print("at work", flush=True)
    time.sleep(600)
"""


def wait_until(true: Callable[[], object]) -> None:
    patience = time.monotonic() + WAIT_S
    while not true() and time.monotonic() < patience:
        time.sleep(0.2)
    assert true()


def follow_all(results: Path) -> AbstractContextManager[Follower]:
    return following(f"sqlite:///{results / 'mlflow.db'}", experiment="classification", results=results)


def test_a_sweep_is_followed_while_it_goes_on_and_is_there_when_it_ends(results: Path) -> None:
    earlier, folder = results / "runs/earlier", results / "sweeps/x"
    jobs = [folder / str(number) for number in range(3)]
    write(earlier, store="default")
    with follow_all(results) as follower:
        follower.follow(folder)
        follower.check()
        process = follower._process
        assert process is not None
        assert os.getsid(process.pid) != os.getsid(0)  # Ctrl-C goes to the session of the terminal
        os.kill(process.pid, signal.SIGTERM)
        sweep = write(folder, store="default", info=SWEEP, end=None)
        workers = [start(WORKER, str(job)) for job in jobs]
        assert [worker.wait(WAIT_S) for worker in workers] == [0] * 3
        client = open_store(results).client
        wait_until(lambda: lacking(client, earlier, *jobs) == [])
        [parent] = [run for run in runs(client) if run.info.status == "RUNNING"]
        sweep.metrics({"search/front": 3.0}, step=3)
        sweep.finish("FINISHED")
    assert process.returncode == 0
    assert lacking(client, folder, *jobs) == []
    assert len(runs(client)) == 5
    below = [run for run in runs(client) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(below) == 3


def test_a_command_that_is_killed_leaves_a_run_that_is_killed_in_both(results: Path) -> None:
    command, folder = start(COMMAND, str(results)), results / "runs/a"
    assert command.stdout is not None
    assert command.stdout.readline() == "at work\n"
    command.kill()
    client = open_store(results).client
    wait_until(lambda: [run.info.status for run in runs(client)] == ["KILLED"])
    wait_until(lambda: (folder / "mlflow.json").exists() and not lacking(client, folder))
    assert "ended without a word" in runs(client)[0].data.tags["error"]
    command.communicate()


def test_a_follower_that_is_killed_costs_a_warning_and_the_next_command_brings_the_rest(
    results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = results / "runs/a"
    with follow_all(results) as follower:
        follower.follow(folder)
        follower.check()
        assert follower._process is not None
        follower._process.kill()
        write(folder, store="default", end="FINISHED")
    assert ["the next command brings" in each.getMessage() for each in caplog.records] == [True]
    with follow_all(results) as follower:
        follower.follow(results / "runs/next")
    assert lacking(open_store(results).client, folder) == []


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////proc/nothing/mlflow.db"])
def test_a_store_that_cannot_be_used_is_an_error_in_one_line_before_anything(uri: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=rf"^tracking\.uri={uri}: an MLflow store that can be opened [^\n]*$"),
        following(uri, experiment="classification", results=tmp_path) as follower,
    ):
        follower.check()


def test_ctrl_c_while_waiting_leaves_the_process_to_finish_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(600)"]
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(timeout: float | None = None) -> int:
        if timeout is None:
            raise KeyboardInterrupt
        raise subprocess.TimeoutExpired(call, timeout)

    monkeypatch.setattr("qp_runner.tracking.follower._start", lambda: process)
    with monkeypatch.context() as patch, following("x://", experiment="e", results=tmp_path):
        patch.setattr(process, "wait", wait)
    assert process.poll() is None
    assert "Ctrl-C leaves that to the background" in capsys.readouterr().err
    process.kill()
    process.wait()


@pytest.fixture
def follower_of(store: Store, uri: str, tmp_path: Path) -> Callable[[str], FolderFollower]:
    """The follower, in this process, of a command whose runs lie in this folder."""
    return lambda folder: FolderFollower(store, Task(uri, "classification", str(tmp_path)), tmp_path / folder)


Followers = Callable[[str], FolderFollower]


def test_a_store_that_fails_for_a_while_costs_one_warning_and_has_everything_in_the_end(
    store: Store,
    key: str,
    follower_of: Followers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(tmp_path / "runs/earlier", store=key)
    run = write(tmp_path / "runs/a", store=key, end=None)
    with monkeypatch.context() as broken:
        for name in ("create_run", "log_batch", "search_experiments"):
            broken.setattr(store.client, name, lambda *_, **__: 1 / 0)
        follower = follower_of("runs/a")
        assert not follower.bring_own()
        assert not follower.bring_left()
        assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert follower.bring_own()
    run.finish("FINISHED")
    follower.finish()
    follower_of("runs/next").finish()
    assert lacking(store.client, tmp_path / "runs/a", tmp_path / "runs/earlier") == []


def test_one_run_that_a_store_does_not_take_keeps_nothing_from_the_others(
    store: Store, key: str, follower_of: Followers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = store.client.create_run

    def create_run(*args: Any, run_name: str, **kwargs: Any) -> Any:
        return 1 / 0 if run_name == SWEEP.name else plain(*args, run_name=run_name, **kwargs)

    monkeypatch.setattr(store.client, "create_run", create_run)
    for name, info in (("0", SWEEP), ("1", INFO)):
        write(tmp_path / "runs" / name, store=key, info=info)
    assert follower_of("runs").bring_own()
    assert lacking(store.client, tmp_path / "runs/1") == []


def test_a_run_that_is_still_at_work_when_its_command_has_ended_is_left_to_the_next(
    store: Store, key: str, follower_of: Followers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qp_runner.tracking.follow.DYING_S", 0.0)
    folder = tmp_path / "sweeps/x/0"
    run = write(folder, store=key, end=None)
    follower_of("sweeps/x").finish()
    assert [each.info.status for each in runs(store.client, load(folder).id)] == ["RUNNING"]
    run.finish("FINISHED")
    follower_of("runs/next").finish()
    assert lacking(store.client, folder) == []


@pytest.mark.parametrize(
    ("since_end", "failure", "progress", "answers", "over"),
    [
        (0, None, -1e6, False, False),  # the end was a moment ago
        (FAILING_S + 1, None, 0, True, False),  # much is to be brought, and it is being brought
        (FAILING_S + 1, -FAILING_S - 9, 0, True, True),  # the store failed before the end
        (FAILING_S + 1, -1, 0, True, False),  # it failed after the end, a moment ago
        (STUCK_S + 1, None, -STUCK_S - 1, True, False),  # one large file takes its time
        (STUCK_S + 1, None, -STUCK_S - 1, False, True),  # nobody is there any more
    ],
)
def test_after_a_failure_the_end_of_a_command_is_bounded(
    follower_of: Followers,
    monkeypatch: pytest.MonkeyPatch,
    since_end: float,
    failure: float | None,
    progress: float,
    answers: bool,
    over: bool,
) -> None:
    follower, now = follower_of("runs/a"), 1e7
    monkeypatch.setattr("qp_runner.tracking.follow.time.monotonic", lambda: now)
    monkeypatch.setattr(follower, "_store_answers", lambda: answers)
    follower._progress = now + progress
    if failure is not None:
        follower._failure = now + failure
    assert follower.takes_too_long(since=now - since_end) == over


def test_a_store_that_hangs_does_not_keep_the_process(
    store: Store, key: str, follower_of: Followers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "runs/a", store=key)
    monkeypatch.setattr("qp_runner.tracking.follow.STUCK_S", 0.0)
    monkeypatch.setattr("qp_runner.tracking.follow.POLL_S", 0.1)
    monkeypatch.setattr(store.client, "search_experiments", lambda **_: 1 / 0)
    monkeypatch.setattr(store.client, "search_runs", lambda *_, **__: time.sleep(600))
    over = Event()
    over.set()
    assert ended(fork(lambda: follow(follower_of("runs/a"), over))) == 0
    assert load(tmp_path / "runs/a").status == "FINISHED"


def test_what_was_brought_before_the_process_was_killed_is_not_brought_again(
    store: Store, key: str, follower_of: Followers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qp_runner.tracking.records.CHUNK", 200)
    write(tmp_path / "runs/a", store=key)
    batches, plain = list[int](), store.client.log_batch

    def log_batch(run_id: str, **given: Any) -> None:
        batches.append(len(given.get("metrics", ())))
        if len(batches) == 8:
            raise KeyboardInterrupt
        plain(run_id, **given)

    monkeypatch.setattr(store.client, "log_batch", log_batch)
    with pytest.raises(KeyboardInterrupt):
        follower_of("runs/a").bring_own()
    follower_of("runs/a").bring_own()
    assert sum(batches) - batches[7] == 40
    assert lacking(store.client, tmp_path / "runs/a") == []
