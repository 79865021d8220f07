"""The parent run of a sweep: made before the first job, so that jobs started at once find a store that is ready."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from qp_runner.locking import RUNNING
from qp_runner.sweep.batch import Batches
from qp_runner.tracking import Status, finish_parent, prepare, reopen_parent, start_parent

FILE = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep share. `parent_run_id` is None when no store is used.

    Attributes:
        digest: what makes another command the same sweep; empty where nobody planned it.
        since: seconds since 1970; states stored before are not used.
        also: by job number, the steps at which it leaves its state for others.
    """

    name: str
    title: str
    jobs: int
    uri: str | None
    parent_run_id: str | None
    digest: str = ""
    since: float = 0.0
    also: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes sweep.json; jobs read it, whatever process or machine they run in."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Sweep | None":
        """The sweep whose folder this is, or None for a folder of no sweep (or of another version's)."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        return None


@dataclass(frozen=True)
class SweepPlan:
    """What the command line knows of a sweep before Hydra starts it.

    Attributes:
        batches: what to launch; None: the sweeper expands the grid itself and launches it at once.
        forgiving: whether failed jobs leave the sweep as such a success.
        digest, since: see `Sweep`.
        parent_run_id: of the earlier attempt that this one goes on with.
    """

    title: str
    experiment: str
    jobs: int
    uri: str | None
    batches: Batches | None = None
    forgiving: bool = False
    digest: str = ""
    since: float = 0.0
    parent_run_id: str | None = None


class ParentRun(Callback):
    """Opens the parent run when a multirun starts. The command line closes it, also after Ctrl-C."""

    plan: SweepPlan | None = None
    sweep: Sweep | None = None
    _lock: IO[str] | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 - Hydra's signature
        """Prepares the store and starts the parent run; without a plan (Hydra run by hand) does nothing."""
        plan = ParentRun.plan
        if plan is None:
            return
        folder = Path(str(config.hydra.sweep.dir))
        parent = None
        if plan.uri is not None:
            prepare(plan.uri, plan.experiment)
            tags = {"sweep": folder.name, "task": plan.experiment, "jobs": str(plan.jobs)}
            parent = plan.parent_run_id
            if parent is None or not reopen_parent(plan.uri, parent):
                parent = start_parent(plan.uri, plan.experiment, f"{plan.title} · {folder.name}", tags)
        ParentRun.sweep = Sweep(
            name=folder.name,
            title=plan.title,
            jobs=plan.jobs,
            uri=plan.uri,
            parent_run_id=parent,
            digest=plan.digest,
            since=plan.since,
        )
        ParentRun.sweep.save(folder)
        ParentRun._lock = _hold(folder / RUNNING)

    @classmethod
    def announce(cls, folder: Path, also: Mapping[int, Sequence[int]]) -> None:
        """Tells the jobs about to start where they leave their states for each other."""
        if cls.sweep is not None:
            cls.sweep = replace(cls.sweep, also={str(number): steps for number, steps in also.items()})
            cls.sweep.save(folder)

    @classmethod
    def close(cls, status: Status) -> None:
        """Ends the parent run, if one is open."""
        sweep, lock, cls.sweep, cls.plan, cls._lock = cls.sweep, cls._lock, None, None, None
        if lock is not None:
            lock.close()
        if sweep is not None and sweep.uri is not None and sweep.parent_run_id is not None:
            finish_parent(sweep.uri, sweep.parent_run_id, status)


def _hold(path: Path) -> IO[str] | None:
    """Locks a file for as long as this process lives and keeps it open: the sign that a sweep is at work."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    file = path.open("w", encoding="utf-8")
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file
