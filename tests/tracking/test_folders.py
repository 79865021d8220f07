"""The runs of a results folder: which are brought, under which, and what is there after any process was killed."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qp_runner.tracking import RunFiles, store_key
from qp_runner.tracking.folders import ABANDONED, bring_folder, end_if_dead, left_behind
from qp_runner.tracking.marker import Marker
from qp_runner.tracking.records import run_folders
from qp_runner.tracking.store import Store
from stores import INFO, SWEEP, ended, fork, lacking, load, runs, write

CALLS = ("create_run", "log_batch", "log_artifact", "log_text", "set_tag", "set_terminated", "delete_run")


@pytest.fixture
def bring_all(store: Store, key: str, tmp_path: Path) -> Callable[[], list[str]]:
    """Brings what earlier commands have left; returns the names of its folders."""

    def call() -> list[str]:
        left = list(left_behind(tmp_path, store_key=key, but=tmp_path / "runs/own"))
        for folder in left:
            assert bring_folder(store, folder, results=tmp_path, store_key=key)
        return [folder.relative_to(tmp_path).as_posix() for folder in left]

    return call


def test_what_is_left_is_brought_once(bring_all: Any, client: Any, key: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("runs/a", "sweeps/x", "sweeps/x/0", "sweeps/x/deep/er/1")]
    for folder in folders:
        write(folder, store=key, info=SWEEP if folder.name == "x" else INFO)
    for name, store in (("runs/own", key), ("runs/no store", None), ("runs/another", "another")):
        write(tmp_path / name, store=store)
    assert bring_all() == [folder.relative_to(tmp_path).as_posix() for folder in folders]
    assert lacking(client, *folders) == []
    parent = Marker.load(tmp_path / "sweeps/x").run_id
    found = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs(client)}
    assert [found[Marker.load(folder).run_id] for folder in folders] == [None, None, parent, parent]
    assert bring_all() == []


def test_a_run_of_a_living_command_is_left_to_it(bring_all: Any, key: str, tmp_path: Path) -> None:
    single = write(tmp_path / "runs/a", store=key, end=None)
    sweep = write(tmp_path / "sweeps/x", store=key, end=None, info=SWEEP)
    write(tmp_path / "sweeps/x/0", store=key)
    assert bring_all() == []
    for run in (single, sweep):
        run.finish("FINISHED")
    assert bring_all() == ["runs/a", "sweeps/x", "sweeps/x/0"]


@pytest.mark.parametrize("first_end", ["KILLED", "FINISHED"])
def test_a_sweep_that_goes_on_keeps_its_run_and_a_job_tried_again_replaces_its(
    bring_all: Any, client: Any, key: str, tmp_path: Path, first_end: Any
) -> None:
    sweep, jobs = tmp_path / "sweeps/x", [tmp_path / "sweeps/x/0", tmp_path / "sweeps/x/1"]
    write(sweep, store=key, end=first_end, info=SWEEP)
    write(jobs[0], store=key)
    write(jobs[1], store=key, end="FAILED")
    bring_all()
    parent, first, failed = (Marker.load(folder).run_id for folder in (sweep, *jobs))
    again = RunFiles(sweep, SWEEP, store=key, go_on=True)
    write(jobs[1], store=key)
    again.metrics({"search/front": 3.0}, step=24)
    again.finish("FINISHED")
    assert bring_all() == ["sweeps/x", "sweeps/x/1"]
    assert lacking(client, sweep, *jobs) == []
    assert (Marker.load(sweep).run_id, Marker.load(jobs[0]).run_id) == (parent, first)
    assert "error" not in client.get_run(parent).data.tags
    below = [run.info.run_id for run in runs(client) if run.data.tags.get("mlflow.parentRunId") == parent]
    assert sorted(below) == sorted([first, Marker.load(jobs[1]).run_id])
    assert client.get_run(failed).info.lifecycle_stage == "deleted"


def test_a_run_that_was_killed_is_so_in_both(bring_all: Any, client: Any, key: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs/a"
    assert ended(fork(lambda: (write(folder, store=key, end=None), os.kill(os.getpid(), signal.SIGKILL)))) == -9
    assert bring_all() == ["runs/a"]
    assert (load(folder).status, load(folder).error) == ("KILLED", ABANDONED)
    assert client.get_run(Marker.load(folder).run_id).data.tags["error"] == ABANDONED
    assert lacking(client, folder) == []


def test_a_run_deleted_from_the_store_counts_as_missing(bring_all: Any, client: Any, key: str, tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps/x"
    write(sweep, store=key, end="KILLED", info=SWEEP)
    bring_all()
    client.delete_run(Marker.load(sweep).run_id)
    RunFiles(sweep, SWEEP, store=key, go_on=True).finish("FINISHED")
    bring_all()
    assert lacking(client, sweep) == []


def follow(results: Path, uri: str) -> None:
    """Brings a results folder, and ends runs that are dead."""
    store, key = Store(uri), store_key(uri, results) or ""
    for folder in run_folders(results):
        end_if_dead(folder)
        bring_folder(store, folder, results=results, store_key=key)


class KilledError(BaseException):
    """Ends a follower where SIGKILL would have."""


def die_after(number: int, patch: pytest.MonkeyPatch) -> None:
    """Has this process "killed" right after the nth thing that it does to the store or to a marker."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            result = call(*args, **kwargs)
            done += 1
            if done == number:
                raise KilledError
            return result

        return counting

    from mlflow import MlflowClient

    for name in CALLS:
        patch.setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    patch.setattr(Marker, "save", counted(Marker.save))


@pytest.mark.parametrize("again", [False, True], ids=["same attempt", "next attempt"])
def test_killed_after_any_call_nothing_is_lost_or_there_twice(
    uri: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    survived, number = False, 0
    while not survived:
        number += 1
        results = tmp_path / str(number)
        sweep, job = results / "sweeps/x", results / "sweeps/x/0"
        key = store_key(uri, results)
        write(sweep, store=key, info=SWEEP, steps=2)
        write(job, store=key, end="FAILED", steps=3)
        with monkeypatch.context() as patch:
            die_after(number, patch)
            with suppress(KilledError):
                follow(results, uri)
                survived = True
        first = load(job).id
        if again:
            write(job, store=key, steps=4)
        follow(results, uri)
        assert lacking(client, sweep, job) == []
        assert len(runs(client, first)) == (0 if again else 1)
    assert number > 15


def test_killed_at_random_moments_while_runs_go_on_nothing_is_lost(results: Path) -> None:
    dice, uri = random.Random(0), f"sqlite:///{results / 'mlflow.db'}"
    infos = {results / "sweeps/x": SWEEP, **{results / "sweeps/x" / str(job): INFO for job in range(3)}}
    at_work = [write(folder, store="default", end=None, info=info) for folder, info in infos.items()]
    for step in range(20, 32):
        for run in at_work:
            for _ in range(50):
                run.metrics({"train/loss": dice.random()}, step=step)
        follower = fork(partial(follow, results, uri))
        time.sleep(dice.uniform(0, 0.6))
        os.kill(follower, signal.SIGKILL)
        ended(follower)
    for run in at_work:
        run.finish("FINISHED")
    followers = [fork(partial(follow, results, uri)) for _ in range(2)]  # at once, but no run twice
    assert [ended(follower) for follower in followers] == [0, 0]
    client = Store(uri).client
    assert lacking(client, *infos) == []
    assert len(runs(client)) == len(infos)
