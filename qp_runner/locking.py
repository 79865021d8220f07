"""Locks on files: who holds one is alive, and a crash lets go of it."""

from pathlib import Path

from filelock import FileLock, Timeout

RUNNING = ".running"
"""Name of the file in the folder of a run or a sweep that is locked while it is at work."""


def try_lock(path: Path) -> FileLock | None:
    """Locks a file (made if missing, as is its folder) without waiting; None where another process holds it.

    The lock lasts until its `release()` or until the process dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on a file; False for a file that is not there."""
    if not path.exists():
        return False
    lock = try_lock(path)
    if lock is None:
        return True
    lock.release()
    return False
