"""Locks on files: who holds one is alive, and a crash lets go of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

RUNNING = ".running"
"""Name of the file in the folder of a run or a sweep that is locked while it is at work."""


def try_lock(path: Path, *, wait_s: float = 0.0) -> FileLock | None:
    """Locks a file (made if missing, as is its folder); None where another process holds it for longer than `wait_s`.

    The lock lasts until its `release()` or until the process dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        return None
    return lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within, holds the lock on a file (made if missing, as is its folder); waits for it as long as it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on a file; False for a file that is not there."""
    if not path.exists():
        return False
    lock = try_lock(path, wait_s=0.1)  # others who look hold it for a moment
    if lock is None:
        return True
    lock.release()
    return False
