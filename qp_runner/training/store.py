"""The folder of checkpoints: found by what decides their state, shared by any number of processes, of bounded size."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qp_runner.training.checkpoint import CheckpointError, decode, encode, write
from qp_runner.training.identity import Identity

log = logging.getLogger(__name__)

SUFFIX = ".ckpt"
_NAME = 16  # characters of a digest in a name; the whole one is inside the file
_STALE_DRAFT_S = 3600.0


@dataclass(frozen=True)
class Store:
    """Checkpoints below `folder`: `<root digest>/<step>-<prefix digest>.ckpt`, beside each a `.json` for people.

    Every operation is safe beside other processes: files appear and vanish whole, and a file that vanishes was only
    a saving of time. Modification times say when a file was made, access times when it was last of use.

    Attributes:
        limit_bytes: above this size the least recently used files go, those that a running sweep still needs last.
        since: seconds since 1970; what is older is not used (and is replaced when made again).
        sweep: the folder of the sweep whose jobs need what is kept here.
    """

    folder: Path
    limit_bytes: int
    since: float = 0.0
    sweep: Path | None = None

    def path(self, identity: Identity, step: int) -> Path:
        """Where the state of this prefix lies, or would lie."""
        return self.folder / identity.root[:_NAME] / f"{step:09d}-{identity.digest(step)[:_NAME]}{SUFFIX}"

    def holds(self, path: Path) -> bool:
        """Whether a file of this name may be used."""
        try:
            return path.stat().st_mtime >= self.since
        except OSError:
            return False

    def steps(self, identity: Identity) -> list[int]:
        """The steps at which a prefix of this run is stored, the deepest first."""
        total = identity.stages[-1].last + 1
        found = []
        for path in sorted((self.folder / identity.root[:_NAME]).glob(f"*-*{SUFFIX}"), reverse=True):
            number = path.name.partition("-")[0]
            if number.isdigit() and 0 < int(number) <= total and path == self.path(identity, int(number)):
                found.append(int(number))
        return [step for step in found if self.holds(self.path(identity, step))]

    def load(self, identity: Identity, step: int) -> dict[str, Any]:
        """A stored state. Raises CheckpointError for a damaged or alien file, FileNotFoundError for one just gone."""
        path = self.path(identity, step)
        content = decode(path.read_bytes())
        if content.get("prefix") != identity.digest(step):
            raise CheckpointError("it holds the state of another run")
        self.used(path)
        return content

    def save(self, identity: Identity, step: int, content: dict[str, Any]) -> None:
        """Stores a state; raises OSError where the disk does not take it, CheckpointError where the limit does not."""
        path = self.path(identity, step)
        data = encode(content | {"prefix": identity.digest(step)})
        if len(data) > self.limit_bytes:
            limit = f"checkpoint.limit_gb={self.limit_bytes / 1e9:g}"
            raise CheckpointError(f"its {len(data) / 1e9:.2f} GB are more than {limit} allows")
        self._make_room(len(data), path)
        write(path, data)
        about = identity.prefix(step) | {"bytes": len(data), "sweep": None if self.sweep is None else str(self.sweep)}
        with suppress(OSError):  # for people alone
            path.with_suffix(".json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")

    def used(self, path: Path) -> None:
        """Notes that a file is of use; its age stays what it is."""
        with suppress(OSError):
            os.utime(path, (time.time(), path.stat().st_mtime))

    def remove(self, path: Path) -> None:
        """Deletes a checkpoint, if it is still there."""
        for each in (path, path.with_suffix(".json")):
            with suppress(OSError):
                each.unlink(missing_ok=True)

    def _make_room(self, needed: int, coming: Path) -> None:
        """Deletes files until `needed` bytes more fit below the limit."""
        files = {path: stat for path, stat in self._files() if path != coming}
        excess = sum(stat.st_size for stat in files.values()) + needed - self.limit_bytes
        if excess <= 0:
            return
        running: dict[str, bool] = {}
        order = sorted(files, key=lambda path: (_is_needed(path, running), files[path].st_atime))
        for path in order:
            if excess <= 0:
                return
            excess -= files[path].st_size
            self.remove(path)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every checkpoint; deletes what writers that were killed left unfinished."""
        for path in self.folder.glob("*/*"):
            with suppress(OSError):  # gone since it was listed
                stat = path.stat()
                if path.suffix == SUFFIX:
                    yield path, stat
                elif path.suffix == ".tmp" and stat.st_mtime < time.time() - _STALE_DRAFT_S:
                    path.unlink(missing_ok=True)


def _is_needed(path: Path, running: dict[str, bool]) -> bool:
    """Whether the sweep that a checkpoint was kept for is still at work."""
    try:
        sweep = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).get("sweep")
    except (OSError, ValueError):
        return False
    if sweep is None:
        return False
    if sweep not in running:
        running[sweep] = is_locked(Path(sweep) / LOCK)
    return running[sweep]


LOCK = ".running"


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on a file."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return False
    try:
        with path.open("r+b") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
