"""Records as plain files: always written, readable with no library, complete up to the moment a process dies."""

import csv
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from qp_runner.errors import ConfigError
from qp_runner.locking import RUNNING, try_lock
from qp_runner.tracking.environment import with_environment
from qp_runner.tracking.records import ARTIFACTS, METRIC_COLUMNS, METRICS, Record, RunInfo, Status, now, read_rows

LOCK_WAIT_S = 5.0  # longer than other processes hold the lock to see whether a run is alive


class RunFiles:
    """Writes `run.json`, `metrics.csv` and `artifacts/` into a run's folder, replacing an earlier run's there.

    run.json: see `Record`. metrics.csv: step, name, value (exact; `nan`, `inf`, `-inf`), time (seconds since 1970), one
    row a number, handed to the operating system row by row, so that a killed process loses nothing. Until `finish` the
    folder's file `.running` is locked: a run that says RUNNING with nobody holding that lock was killed.
    """

    def __init__(self, folder: Path, info: RunInfo, *, store: str | None, go_on: bool = False) -> None:
        """Starts the record.

        Args:
            folder: the run's; made if missing.
            info: what is known of the run.
            store: the `store_key` of the MLflow store that is to have the run; None for none.
            go_on: goes on with the record in the folder, if there is one, instead of replacing it: its id, start,
                tags, metrics and artifacts are kept.

        Raises ConfigError (`hydra.run.dir`) where another process is at work in the folder, OSError where it cannot be
        written: a run without any record is not worth starting.
        """
        self._folder = folder.resolve()
        lock = try_lock(self._folder / RUNNING, wait_s=LOCK_WAIT_S)
        if lock is None:
            raise ConfigError("hydra.run.dir", self._folder, "a folder in which no other process is at work")
        self._lock = lock
        earlier = Record.load(self._folder) if go_on else None
        if earlier is None:  # first what must not be taken for the new run's, then the new run.json
            shutil.rmtree(self._folder / ARTIFACTS, ignore_errors=True)
            (self._folder / METRICS).unlink(missing_ok=True)
            self._record = _new_record(info, store)
        else:
            own = earlier.id or uuid.uuid4().hex
            opened = replace(earlier, id=own, status="RUNNING", end_time=None, error=None, store=store)
            self._record = replace(opened, additions=earlier.additions + 1)
        (self._folder / ARTIFACTS).mkdir(exist_ok=True)
        self._record.save(self._folder)
        self._file, self._last_ms = _open_metrics(self._folder)
        self._rows = csv.writer(self._file, lineterminator="\n")

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Appends one row a value, at a count of training steps done, and hands them to the operating system.

        Each call has a later time than the one before: MLflow tells records of the same step apart by their time.
        """
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        when = f"{self._last_ms / 1000:.3f}"
        self._rows.writerows((step, name, repr(float(value)), when) for name, value in values.items())
        self._file.flush()

    def file(self, name: str) -> Path:
        """Where to write an artifact: `artifacts/<name>`; its folder is made."""
        path = self._folder / ARTIFACTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def text(self, name: str, content: str) -> None:
        """Writes `artifacts/<name>`."""
        self.file(name).write_text(content, encoding="utf-8")

    def artifact(self, name: str) -> None:
        """Counts a file that lies in the run's folder itself among its artifacts."""
        if name not in self._record.files:
            self._record = replace(self._record, files=[*self._record.files, name])
            self._record.save(self._folder)

    def finish(self, status: Status, error: str | None = None, *, end_time: str | None = None) -> None:
        """Writes the status, the end (None: now) and the error into run.json, once. A second call changes nothing."""
        if self._file.closed:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        self._record = replace(self._record, status=status, end_time=end_time or now(), error=error)
        self._record.save(self._folder)
        self._lock.release()


def _new_record(info: RunInfo, store: str | None) -> Record:
    return Record(
        name=info.name,
        experiment=info.experiment,
        status="RUNNING",
        start_time=now(),
        id=uuid.uuid4().hex,
        store=store,
        tags=with_environment(info.tags),
        params=dict(info.params),
    )


def _open_metrics(folder: Path) -> tuple[TextIO, int]:
    """metrics.csv, ready for the next row, and the time of the last one; a row that was cut off is removed."""
    path, last_ms, end = folder / METRICS, 0, 0
    while True:
        rows, following = read_rows(folder, end)
        if following == end:
            break
        last_ms, end = max([last_ms, *(row.time_ms for row in rows)]), following
    if path.exists():
        os.truncate(path, end)
    file = path.open("a", encoding="utf-8", newline="")
    if not end:
        csv.writer(file, lineterminator="\n").writerow(METRIC_COLUMNS)
        file.flush()
    return file, last_ms
