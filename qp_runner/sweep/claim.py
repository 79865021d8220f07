"""The folder of a sweep, held by one command from before its planning to its end."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock

from qp_runner.errors import ConfigError
from qp_runner.locking import try_lock
from qp_runner.sweep.orphan import wait_for_orphans
from qp_runner.sweep.parent import Sweep

CLAIM = ".sweep.lock"
"""Name of the file that is locked in the folder of a sweep that a command plans or runs."""


class Claim:
    """What a command holds: no folder at first, then one. Whatever another command holds is not to be had."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def earlier(self, digest: str, *, results: Path, named: Path | None) -> Path | None:
        """Takes the folder of the latest attempt at a sweep; None where there is none, or others are at work in it.

        Args:
            digest: the sweep's; empty for one that can't go on.
            results: where sweeps lie if nothing else is said.
            named: the one folder to look at, where the command line names it.
        """
        candidates = sorted((results / "sweeps").glob("*"), reverse=True) if named is None else [named]
        found = next((each for each in candidates if digest and _is(each, digest) and self._take(each)), None)
        if found is not None:  # what its last jobs still finish counts
            wait_for_orphans(each for each in found.iterdir() if each.is_dir())
        return found

    def new(self, wanted: Path) -> Path:
        """Makes and takes a folder that nobody had before: `wanted`, or that name with a number."""
        for folder in _names(wanted):
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                if self._take(folder):
                    return folder
        raise AssertionError("unreachable")

    def named(self, folder: Path) -> Path:
        """Takes the folder that the command line names. Raises ConfigError where another command is at work in it."""
        if not self._take(folder):
            raise ConfigError("hydra.sweep.dir", folder, "a folder in which no other sweep is at work")
        return folder

    def release(self) -> None:
        """Lets go of the folder, if there is one."""
        if self._lock is not None:
            self._lock.release()

    def _take(self, folder: Path) -> bool:
        self._lock = try_lock(folder / CLAIM)
        return self._lock is not None


@contextmanager
def claiming() -> Iterator[Claim]:
    """A claim, which ends with this."""
    claim = Claim()
    try:
        yield claim
    finally:
        claim.release()


def _is(folder: Path, digest: str) -> bool:
    known = Sweep.load(folder)
    return known is not None and known.digest == digest


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in count(2):
        yield wanted.with_name(f"{wanted.name}-{number}")
