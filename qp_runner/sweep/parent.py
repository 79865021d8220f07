"""The sweep as a whole: its folder, its record, and what its jobs read from it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from qp_runner.config import Config
from qp_runner.run.identity import stored_before
from qp_runner.tracking import RunFiles, RunInfo, Status, store_key
from qp_runner.tracking.folders import end_if_dead
from qp_runner.tracking.records import run_folders, write_json

FILE = "sweep.json"
DYING_S = 3.0  # that killed workers may take to be gone


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep have to know of it, as a file: they may run in other processes, on other machines.

    Attributes:
        digest: what makes another command the same sweep; empty for a sweep that can't go on.
        ignored: marks of stored states that are not used; see `CheckpointStore`.
        checkpoint_steps: by job number, the steps at which it stores its state for others.
    """

    name: str
    title: str
    jobs: int
    digest: str = ""
    ignored: Sequence[str] = ()
    checkpoint_steps: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes sweep.json."""
        write_json(folder / FILE, asdict(self), durable=True)

    @classmethod
    def load(cls, folder: Path) -> "Sweep | None":
        """The sweep whose folder this is; None for a folder of no sweep, or of another version's."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        return None


@dataclass
class ParentRun:
    """A sweep at work; `files` is its own record, which MLflow shows as the parent of the jobs' runs."""

    folder: Path
    sweep: Sweep
    files: RunFiles

    def announce(self, checkpoint_steps: Mapping[int, Sequence[int]]) -> None:
        """Has the jobs that start next store their states at these steps, by job number."""
        steps = {str(number): list(each) for number, each in checkpoint_steps.items()}
        self.sweep = replace(self.sweep, checkpoint_steps=steps)
        self.sweep.save(self.folder)


@contextmanager
def parent_run(
    folder: Path, config: Config, *, title: str, jobs: int, digest: str = "", goes_on: bool = False
) -> Iterator[ParentRun]:
    """Within, the sweep is at work: nobody else can go on with its folder. At the end its record says how it ended.

    The folder exists; `goes_on` says whether it is that of an earlier attempt. `config` is that of any job.
    """
    tags = {"sweep": folder.name, "task": config.task.name, "jobs": str(jobs)}
    info = RunInfo(f"{title} · {folder.name}", config.task.name, tags)
    files = RunFiles(folder, info, store=store_key(config.store_uri(), Path(config.results)), go_on=goes_on)
    status: Status = "FAILED"
    try:
        sweep = Sweep(folder.name, title, jobs, digest=digest, ignored=sorted(stored_before(config)))
        sweep.save(folder)
        yield ParentRun(folder, sweep, files)
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        if status != "FINISHED":
            _end_dead_jobs(folder)
        files.finish(status)


def _end_dead_jobs(folder: Path) -> None:
    """Marks runs whose worker was killed with the sweep, once it is gone."""
    patience = time.monotonic() + DYING_S
    jobs = [each for each in run_folders(folder) if each != folder]
    while [each for each in jobs if end_if_dead(each)] and time.monotonic() < patience:
        time.sleep(0.1)
