"""Records as plain files: always written, readable with no library, complete up to the moment a process dies."""

import csv
import json
import os
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from qp_runner.tracking.base import RunInfo, Status
from qp_runner.tracking.environment import with_environment

METRIC_COLUMNS = ("step", "name", "value", "time")


class FileTracker:
    """Writes `run.json`, `metrics.csv` and `artifacts/` into a run's folder, replacing an earlier run's there.

    run.json: name, experiment, status (RUNNING until `finish`), start_time and end_time (ISO 8601, UTC), error, tags,
    params. metrics.csv: step, name, value (exact; `nan`, `inf`, `-inf`), time (seconds since 1970), one row a number,
    handed to the operating system row by row, so that a killed process loses nothing.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        """Raises OSError where the folder cannot be written: a run without any record is not worth starting."""
        self._folder = folder.resolve()
        self._artifacts = self._folder / "artifacts"
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._artifacts, ignore_errors=True)
        self._artifacts.mkdir()
        self._record: dict[str, object] = {
            "name": info.name,
            "experiment": info.experiment,
            "status": "RUNNING",
            "start_time": _now(),
            "end_time": None,
            "error": None,
            "tags": with_environment(info.tags),
            "params": dict(info.params),
        }
        self._file = (self._folder / "metrics.csv").open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(METRIC_COLUMNS)
        self._file.flush()
        self._save()

    @property
    def run_id(self) -> str:
        """The run's folder: no two runs share one."""
        return str(self._folder)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Appends one row a value and hands them to the operating system."""
        now = f"{time.time():.3f}"
        self._rows.writerows((step, name, repr(float(value)), now) for name, value in values.items())
        self._file.flush()

    def text(self, name: str, content: str) -> None:
        """Writes `artifacts/<name>`."""
        path = self._artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def artifact(self, path: Path, folder: str = "") -> Path:
        """Copies a file or folder into `artifacts/<folder>`; what lies in the run's own folder already is kept."""
        path = path.resolve()
        if path.is_relative_to(self._folder):
            return path
        target = self._artifacts / folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target)
        return target

    def flush(self) -> None:
        """Has the metrics written to the disk itself."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self, status: Status, error: str | None = None) -> None:
        """Writes the status, the end and the error into run.json, once."""
        if self._file.closed:
            return
        self.flush()
        self._file.close()
        self._record |= {"status": status, "end_time": _now(), "error": error}
        self._save()

    def _save(self) -> None:
        """Replaces run.json in one step: a reader, or a crash, sees the old one or the new one, never half of one."""
        path = self._folder / "run.json"
        draft = path.with_suffix(".json.tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._record, file, indent=2, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
