"""Worker processes whose command was killed end themselves, so that nobody else has to find them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from qp_runner.locking import RUNNING, is_locked

LOOK_S = 0.5
ORPHAN_S = 30.0  # that a worker of a killed command may take to end its step, and so to leave a job's folder


@cache
def end_with_the_command() -> None:
    """In a worker process, starts a thread that ends the process once its parent is gone. Elsewhere, does nothing.

    A worker whose parent was killed before its first job, while the worker was still importing, ends at once: the jobs
    that wait in its queue are the next command's. Later on, SIGTERM ends a run that is at work as Ctrl-C would, with
    its records; a process without one it ends at once. Jobs of a cluster are no children of their command, and outlive
    it: each of them locks its own folder.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    if parent.pid != os.getppid():
        os._exit(128 + signal.SIGTERM)
    threading.Thread(target=_watch, args=(parent.pid,), daemon=True).start()


def wait_for_orphans(jobs: Iterable[Path]) -> None:
    """Waits until nobody is at work in the folders of some jobs, for a while: a job may just end well."""
    patience = time.monotonic() + ORPHAN_S
    for folder in jobs:
        while is_locked(folder / RUNNING) and time.monotonic() < patience:
            time.sleep(0.2)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LOOK_S)
