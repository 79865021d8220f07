"""The files of a run's folder, read by any process while the run writes them: run.json, metrics.csv, artifacts."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

RUN, METRICS, ARTIFACTS = "run.json", "metrics.csv", "artifacts"
METRIC_COLUMNS = ("step", "name", "value", "time")
Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run can end."""

CHUNK = 1 << 20  # bytes of metrics.csv that are read at once
ID_TAG = "qp_runner.id"
"""The tag that a run of this project has in MLflow, and no other: the id of its attempt."""

NO_RUNS_BELOW = {ARTIFACTS, "pictures", "checkpoints", "mlartifacts"}


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before it starts.

    Attributes:
        name: how a person tells the run from its neighbours, e.g. `p_q_wf · seed 0`.
        experiment: the group of comparable runs it belongs to: the task's name.
        tags: what runs are chosen and grouped by.
        params: the resolved configuration, flattened: dotted key -> value as text.
    """

    name: str
    experiment: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What run.json holds.

    Attributes:
        name, experiment, tags, params: see `RunInfo`; the tags include the environment's.
        status: RUNNING, or a `Status`.
        start_time, end_time: ISO 8601, UTC.
        error: why the run did not finish, or what of a finished run's exported files is not as it should be.
        id: of this attempt; a run that is started again in the same folder has another one.
        store: the `store_key` of the MLflow store that is to have the run; None for none.
        files: paths, relative to the folder, of artifacts that lie outside `artifacts/`.
        additions: how often the record was gone on with after its end.
    """

    name: str
    experiment: str
    status: str
    start_time: str
    end_time: str | None = None
    error: str | None = None
    id: str = ""
    store: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    additions: int = 0

    @classmethod
    def load(cls, folder: Path) -> "Record | None":
        """The record in a folder; None where there is none that can be read."""
        try:
            known = json.loads((folder / RUN).read_text(encoding="utf-8"))
            return cls(**{each.name: known[each.name] for each in fields(cls) if each.name in known})
        except (OSError, ValueError, TypeError):
            return None

    def save(self, folder: Path) -> None:
        """Writes run.json; it is on the disk when this returns."""
        write_json(folder / RUN, asdict(self), durable=True)

    @property
    def end(self) -> str:
        """How and when the run ended, and what number of additions it has; empty while it goes on."""
        added = f" +{self.additions}" if self.additions else ""
        return f"{self.status} {self.end_time}{added}" if self.status in get_args(Status) else ""


@dataclass(frozen=True)
class Row:
    """A row of metrics.csv. `time_ms` counts milliseconds since 1970."""

    step: int
    name: str
    value: float
    time_ms: int


def read_rows(folder: Path, start: int = 0) -> tuple[list[Row], int]:
    """Rows of metrics.csv from byte `start` on (not necessarily all), and the byte where the next ones begin.

    A last row that is still being written, or was cut off when its process died, is not read. Lines that are no rows
    (the header, what a crash of the machine left) are passed over.
    """
    try:
        with (folder / METRICS).open("rb") as file:
            file.seek(start)
            data = file.read(CHUNK)
    except FileNotFoundError:
        return [], start
    whole = data[: data.rfind(b"\n") + 1]
    lines = csv.reader(whole.decode("utf-8", errors="replace").split("\n"))
    return [row for row in map(_row, lines) if row is not None], start + len(whole)


def _row(columns: Sequence[str]) -> Row | None:
    try:
        step, name, value, time = columns
        return Row(int(step), name, float(value), round(float(time) * 1000))
    except ValueError:
        return None


def artifact_files(folder: Path, record: Record) -> Iterator[tuple[Path, str]]:
    """A run's artifacts, file by file, each with its path among the artifacts."""
    for root, base in [(folder / ARTIFACTS, folder / ARTIFACTS), *((folder / name, folder) for name in record.files)]:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file():
                yield path, path.relative_to(base).as_posix()


def run_folders(top: Path) -> Iterator[Path]:
    """All folders from `top` downwards that hold a run.json; a sweep's comes before those of its jobs."""
    for path, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NO_RUNS_BELOW)
        if RUN in files:
            yield Path(path)


def parent_folder(folder: Path, results: Path) -> Path | None:
    """The nearest folder above a run's, within `results`, that holds a run.json: its sweep's."""
    for above in folder.parents:
        if above == results:
            break
        if (above / RUN).is_file():
            return above
    return None


def write_json(path: Path, data: object, *, durable: bool = False) -> None:
    """Replaces a file in one step: a reader, or a crash, sees the old one or the new one, never half of one."""
    draft = path.with_name(f"{path.name}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=2, ensure_ascii=False)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)


def now() -> str:
    """The time as run.json gives it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def milliseconds(time: str) -> int:
    """Milliseconds since 1970 of a time in run.json."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
