"""Workers whose command was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STARTS_A_WORKER = """
import multiprocessing, os, sys, time
from pathlib import Path

def work(parent, started):
    from qp_runner.sweep.orphan import end_with_the_command
    before = os.environ.get("BEFORE")
    if before:
        end_with_the_command()
    started.touch()
    while os.getppid() == parent:
        time.sleep(0.02)
    if not before:
        end_with_the_command()
    time.sleep(20)
    print("still at work", flush=True)

if __name__ == "__main__":
    started = Path(sys.argv[1])
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(os.getpid(), started))
    worker.start()
    while not started.exists():
        time.sleep(0.02)
    os._exit(0)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("before", ["", "yes"], ids=["while it starts", "while it works"])
def test_a_worker_ends_when_its_command_is_gone(tmp_path: Path, before: str) -> None:
    (tmp_path / "starts_a_worker.py").write_text(STARTS_A_WORKER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "starts_a_worker.py", tmp_path / "started"],
        env=os.environ | {"BEFORE": before},
        capture_output=True,  # and so until the worker, too, has closed its output
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
