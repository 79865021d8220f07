"""Sweeps that start together, are killed while they start, outlive their command, or are moved and copied."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qp_runner.errors import ConfigError
from qp_runner.sweep.claim import claiming
from qp_runner.sweep.parent import Sweep
from stores import load
from support import execute, forked, metrics, same

QUICK = ["tracking=none", "trainer.epochs=2", "trainer.batch_size=128", "trainer.progress=false", "trainer.threads=1"]
SWEEP = ["-m", "schedule=float,q_wf", *QUICK]


def sweeps(results: Path) -> list[Path]:
    return sorted((results / "sweeps").iterdir())


def finished(sweep: Path) -> bool:
    return all(load(folder).status == "FINISHED" for folder in (sweep, sweep / "0", sweep / "1"))


ENDS_LATE = """
import sys, time
from pathlib import Path
from qp_runner.locking import RUNNING, try_lock
job = Path(sys.argv[1])
lock = try_lock(job / RUNNING)
print("at work", flush=True)
time.sleep(1.5)
(job / "run.json").write_text("ended well")
"""


def test_what_the_last_jobs_of_a_killed_command_still_finish_is_seen_by_the_next(tmp_path: Path) -> None:
    """Else a job that just ended well would run again, and be two runs in MLflow."""
    folder = tmp_path / "sweeps" / "now"
    (folder / "0").mkdir(parents=True)
    Sweep("now", "a sweep", 1, digest="x").save(folder)
    with subprocess.Popen([sys.executable, "-c", ENDS_LATE, folder / "0"], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        with claiming() as next_command:
            assert next_command.earlier("x", results=tmp_path, named=None) == folder
            assert (folder / "0" / "run.json").exists()


def test_a_folder_is_held_by_one_command_and_others_get_their_own(tmp_path: Path) -> None:
    wanted = tmp_path / "sweeps" / "now"
    with claiming() as one, claiming() as other:
        assert one.new(wanted) == wanted
        assert other.new(wanted) == tmp_path / "sweeps" / "now-2"
        Sweep("now", "a sweep", 2, digest="x").save(wanted)
        with claiming() as late:
            assert late.earlier("x", results=tmp_path, named=None) is None
            with pytest.raises(ConfigError, match="no other sweep is at work"):
                late.named(wanted)
    with claiming() as later:
        assert later.earlier("", results=tmp_path, named=None) is None
        assert later.earlier("x", results=tmp_path, named=None) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
@pytest.mark.parametrize("start_late_s", [0, 1])
def test_sweeps_that_start_together_all_run_each_in_its_folder(here: Path, start_late_s: int) -> None:
    program = f"""
pids = []
for seed in (0, 0, 1):
    pids.append(start([*command, f"seed={{seed}}"]))
    time.sleep({start_late_s})
sys.exit(any([ended(pid) for pid in pids]))
"""
    done = forked(program, SWEEP)
    assert done.returncode == 0, done.stderr
    found = sweeps(here / "results")
    assert all(finished(sweep) for sweep in found)
    seeds = sorted(load(sweep / "1").tags["seed"] for sweep in found)
    assert seeds in (["0", "0", "1"], ["0", "1"])  # the second has nothing to do if the first is over when it starts
    assert {load(sweep / job).tags["sweep"] for sweep in found for job in "01"} == {each.name for each in found}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_the_same_sweep_twice_at_once_does_not_go_on_in_one_folder(here: Path) -> None:
    assert execute(SWEEP) == 0
    [first] = sweeps(here / "results")
    (first / "1" / "run.json").unlink()
    done = forked("sys.exit(any([ended(pid) for pid in [start(command) for _ in range(2)]]))", SWEEP)
    assert done.returncode == 0, done.stderr
    assert all(finished(sweep) for sweep in sweeps(here / "results"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX systems")
def test_a_first_start_may_be_killed_before_any_change_of_a_file(here: Path) -> None:
    dying = """
def dies_at(number):
    left = [number]
    def count(event, args):
        changes = event == "open" and isinstance(args[0], str) and (args[2] & (os.O_WRONLY | os.O_RDWR))
        if (changes or event in ("os.mkdir", "os.rename", "os.remove")) and "results" in str(args[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)

def start_dying(command, number):
    pid = os.fork()
    if not pid:
        dies_at(number)
        sys.argv = ["qp-runner", *command]
        os._exit(main())
    return pid

for number in (1, 3, 5, 7, 9, 12, 15, 19, 24, 30):
    mine = [*command, f"results=results{number}"]
    assert ended(start_dying(mine, number)) == -signal.SIGKILL, number
    assert ended(start(mine)) == 0, number
"""
    done = forked(dying, SWEEP)
    assert done.returncode == 0, done.stderr
    assert execute([*SWEEP, "results=whole"]) == 0
    [whole] = sweeps(here / "whole")
    for results in here.glob("results*"):
        complete = [sweep for sweep in sweeps(results) if (sweep / "run.json").exists() and finished(sweep)]
        assert complete, results
        for job in "01":
            same(complete[-1] / job, whole / job)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_their_command_and_the_same_command_goes_on_at_once(
    here: Path, number: signal.Signals
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "checkpoint.every=20"]
    command = [*SWEEP, *joblib, "trainer.epochs=12"]
    process = subprocess.Popen([sys.executable, "-m", "qp_runner", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(len(metrics(each.parent)) >= 4 for each in here.glob("results/sweeps/*/*/metrics.csv")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait() == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    again = subprocess.run([sys.executable, "-m", "qp_runner", *command], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    [sweep] = sweeps(here / "results")
    assert finished(sweep)
    assert execute([*SWEEP, "trainer.epochs=12", "checkpoint.enabled=false", "results=alone"]) == 0
    for job in "01":
        same(sweep / job, sweeps(here / "alone")[0] / job)


def test_results_may_be_moved_and_copied_and_are_gone_on_with_where_they_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*SWEEP, "results=old"]) == 0
    (here / "old").rename(here / "moved")
    shutil.copytree(here / "moved", here / "copy")
    (sweeps(here / "copy")[0] / "1" / "run.json").unlink()
    before = {path: path.read_bytes() for path in (here / "moved").rglob("*") if path.is_file()}
    for name, skipped in (("moved", 2), ("copy", 1)):
        capsys.readouterr()
        assert execute([*SWEEP, f"results={name}"]) == 0
        assert capsys.readouterr().err.count("finished before, skipped") == skipped
        if name == "moved":  # of which only the sweep's own record is written again
            before |= {path: path.read_bytes() for path in sweeps(here / "moved")[0].glob("*") if path.is_file()}
    assert not (here / "old").exists()
    assert {path: path.read_bytes() for path in (here / "moved").rglob("*") if path.is_file()} == before
    assert finished(sweeps(here / "copy")[0])
    same(sweeps(here / "copy")[0] / "1", sweeps(here / "moved")[0] / "1")


def test_a_fresh_sweep_shares_within_itself_whatever_the_clock_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-m", "schedule=p_q_wf,q_p_wf", *QUICK]
    assert execute(command) == 0
    for path in (here / "results" / "checkpoints").rglob("*.ckpt"):
        os.utime(path, (time.time() + 7200,) * 2)
    capsys.readouterr()
    assert execute([*command, "checkpoint.fresh=true"]) == 0
    first, second = (line for line in capsys.readouterr().err.splitlines() if ": accuracy" in line)
    assert "were stored" not in first
    assert "were stored" in second
    assert execute(["schedule=p_q_wf", *QUICK, "checkpoint.fresh=true"]) == 0
    assert "were stored" not in capsys.readouterr().err
