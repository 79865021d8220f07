"""Checkpoints: states of runs on disk, from which runs share training and resume after a crash.

`CheckpointStore` is the folder, `RunCheckpoints` is what one run loads from it and saves to it.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qp_runner.locking import RUNNING, is_locked
from qp_runner.training.checkpoint_file import CheckpointError, decode, encode, write
from qp_runner.training.identity import Identity

log = logging.getLogger(__name__)

SUFFIX = ".ckpt"
_DIGEST_LENGTH = 16  # characters of a digest in a file name; the file itself holds all of it
_STALE_DRAFT_S = 3600.0


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints, `<root digest>/<step>-<prefix digest>.ckpt`, each with a readable `.json` description.

    Any number of processes may use it at once: files appear and disappear whole, and losing one only costs time.
    A file's access time says when it was last used.

    Attributes:
        limit_bytes: maximum size. To stay below it, the least recently used files are deleted, those of running sweeps
            last.
        ignored: `marks` of files to ignore, and to replace when the same state is saved again.
        sweep: the folder of the sweep that what is saved here belongs to.
    """

    folder: Path
    limit_bytes: int
    ignored: frozenset[str] = frozenset()
    sweep: Path | None = None

    def path(self, identity: Identity, step: int) -> Path:
        """Where the state of this run before this step is stored, if it is."""
        name = f"{step:09d}-{identity.digest(step)[:_DIGEST_LENGTH]}{SUFFIX}"
        return self.folder / identity.root[:_DIGEST_LENGTH] / name

    def is_usable(self, path: Path) -> bool:
        """Whether the file exists and is none of those to ignore."""
        try:
            return _mark(path, path.stat()) not in self.ignored
        except OSError:
            return False

    def marks(self) -> frozenset[str]:
        """What tells the files that are there now from any that will take their names."""
        return frozenset(_mark(path, stat) for path, stat in self._files())

    def steps(self, identity: Identity) -> list[int]:
        """The steps of this run whose states are stored, in descending order."""
        total = identity.stages[-1].last + 1
        found = []
        for path in sorted((self.folder / identity.root[:_DIGEST_LENGTH]).glob(f"*-*{SUFFIX}"), reverse=True):
            number = path.name.partition("-")[0]
            if number.isdigit() and 0 < int(number) <= total and path == self.path(identity, int(number)):
                found.append(int(number))
        return [step for step in found if self.is_usable(self.path(identity, step))]

    def load(self, identity: Identity, step: int) -> dict[str, Any]:
        """A stored state. Raises CheckpointError for a damaged or foreign file, FileNotFoundError for a deleted one."""
        path = self.path(identity, step)
        content = decode(path.read_bytes())
        if content.get("prefix") != identity.digest(step):
            raise CheckpointError("it holds the state of another run")
        self.mark_used(path)
        return content

    def save(self, identity: Identity, step: int, content: dict[str, Any]) -> None:
        """Stores a state. Raises OSError if it can't be written, CheckpointError if it is larger than the limit."""
        path = self.path(identity, step)
        data = encode(content | {"prefix": identity.digest(step)})
        if len(data) > self.limit_bytes:
            limit = f"checkpoint.limit_gb={self.limit_bytes / 1e9:g}"
            raise CheckpointError(f"its {len(data) / 1e9:.2f} GB are more than {limit} allows")
        self._make_room(len(data), path)
        write(path, data)
        about = identity.prefix(step) | {"bytes": len(data), "sweep": self._relative(self.sweep)}
        with suppress(OSError):  # without it the checkpoint is still good
            path.with_suffix(".json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")

    def mark_used(self, path: Path) -> None:
        """Sets a file's access time to now; its modification time stays."""
        with suppress(OSError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))

    def remove(self, path: Path) -> None:
        """Deletes a checkpoint if it still exists."""
        for each in (path, path.with_suffix(".json")):
            with suppress(OSError):
                each.unlink(missing_ok=True)

    def _make_room(self, needed: int, coming: Path) -> None:
        """Deletes files until `needed` more bytes fit below the limit; `coming` will be replaced."""
        files = {path: stat for path, stat in self._files() if path != coming}
        excess = sum(stat.st_size for stat in files.values()) + needed - self.limit_bytes
        if excess <= 0:
            return
        running: dict[str, bool] = {}
        for path in sorted(files, key=lambda path: (self._is_needed(path, running), files[path].st_atime)):
            if excess <= 0:
                return
            excess -= files[path].st_size
            self.remove(path)

    def _relative(self, sweep: Path | None) -> str | None:
        """A sweep's folder as seen from this one, so that both can move together."""
        return None if sweep is None else os.path.relpath(sweep, self.folder)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every checkpoint; deletes the drafts of writers that were killed."""
        for path in self.folder.glob("*/*"):
            with suppress(OSError):  # another process has deleted it
                stat = path.stat()
                if path.suffix == SUFFIX:
                    yield path, stat
                elif path.suffix == ".tmp" and stat.st_mtime < time.time() - _STALE_DRAFT_S:
                    path.unlink(missing_ok=True)

    def _is_needed(self, path: Path, running: dict[str, bool]) -> bool:
        """Whether a checkpoint belongs to a running sweep; `running` remembers the answer for each sweep."""
        try:
            sweep = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).get("sweep")
        except (OSError, ValueError):
            return False
        if sweep is None:
            return False
        if sweep not in running:
            running[sweep] = is_locked(self.folder / sweep / RUNNING)
        return running[sweep]


def _mark(path: Path, stat: os.stat_result) -> str:
    """Files are replaced, never changed: another file under the same name has another number."""
    return f"{path.parent.name}/{path.name} {stat.st_ino} {stat.st_mtime_ns}"


class RunCheckpoints:
    """Loads and saves one run's checkpoints; whatever goes wrong is logged and never ends the run.

    Saved are the states before each event and at `checkpoint_steps` (where other runs of the sweep diverge from this
    one), for good; and the state after every `every` steps, a recovery point that the next one replaces and the end of
    the run deletes.
    """

    def __init__(
        self,
        store: CheckpointStore,
        identity: Identity,
        *,
        every: int | None = None,
        checkpoint_steps: frozenset[int] = frozenset(),
    ) -> None:
        self.store, self.identity, self.every = store, identity, every
        self._lasting = {step for step in (*identity.events, *checkpoint_steps) if step > 0}
        self._damaged: set[Path] = set()
        self._recovery_point: Path | None = None
        self._warned = False

    def load_latest(self, misfit: Callable[[dict[str, Any]], str] = lambda _: "") -> dict[str, Any] | None:
        """The stored state of this run with the most steps, or None.

        Logs and skips damaged files, and those that `misfit` says something about.
        """
        for step in self.store.steps(self.identity):
            path = self.store.path(self.identity, step)
            try:
                content = self.store.load(self.identity, step)
                if reason := misfit(content):
                    raise CheckpointError(reason)
            except FileNotFoundError:  # another process has just deleted it
                continue
            except (CheckpointError, OSError) as error:
                log.warning("ignoring the checkpoint %s, its steps are computed again: %s", path, error)
                self._damaged.add(path)
            else:
                if self._is_recovery_point(step):
                    self._recovery_point = path
                return content
        return None

    def save_if_due(self, step: int, capture: Callable[[], dict[str, Any]]) -> None:
        """Saves the state before this step if it is due and not stored yet; logs the first failure."""
        if step not in self._lasting and not self._is_recovery_point(step):
            return
        path = self.store.path(self.identity, step)
        if path not in self._damaged and self.store.is_usable(path):
            self.store.mark_used(path)
        elif not self._save(step, capture):
            return
        self._damaged.discard(path)
        if self._is_recovery_point(step):
            self.delete_recovery_point()
            self._recovery_point = path

    def delete_recovery_point(self) -> None:
        """Deletes the recovery point, if there is one; call this when the run has ended."""
        if self._recovery_point is not None:
            self.store.remove(self._recovery_point)
        self._recovery_point = None

    def _save(self, step: int, capture: Callable[[], dict[str, Any]]) -> bool:
        try:
            self.store.save(self.identity, step, capture())
        except (CheckpointError, OSError) as error:
            if not self._warned:
                log.warning("can't save a checkpoint at step %d, the run continues without: %s", step, error)
            self._warned = True
            return False
        return True

    def _is_recovery_point(self, step: int) -> bool:
        return self.every is not None and step > 0 and step % self.every == 0 and step not in self._lasting
