"""The parent run of a sweep: made before the first job, so that jobs started at once find a store that is ready."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from qp_runner.tracking import Status, finish_parent, prepare, start_parent

FILE = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep share. `parent_run_id` is None when no store is used."""

    name: str
    title: str
    jobs: int
    uri: str | None
    parent_run_id: str | None

    def save(self, folder: Path) -> None:
        """Writes sweep.json; jobs read it, whatever process or machine they run in."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Sweep | None":
        """The sweep whose folder this is, or None for a folder of no sweep."""
        path = folder / FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


@dataclass(frozen=True)
class SweepPlan:
    """What the command line knows of a sweep before Hydra starts it."""

    title: str
    experiment: str
    jobs: int
    uri: str | None


class ParentRun(Callback):
    """Opens the parent run when a multirun starts. The command line closes it, also after Ctrl-C."""

    plan: SweepPlan | None = None
    sweep: Sweep | None = None

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
            parent = start_parent(plan.uri, plan.experiment, f"{plan.title} · {folder.name}", tags)
        ParentRun.sweep = Sweep(folder.name, plan.title, plan.jobs, plan.uri, parent)
        ParentRun.sweep.save(folder)

    @classmethod
    def close(cls, status: Status) -> None:
        """Ends the parent run, if one is open."""
        sweep, cls.sweep, cls.plan = cls.sweep, None, None
        if sweep is not None and sweep.uri is not None and sweep.parent_run_id is not None:
            finish_parent(sweep.uri, sweep.parent_run_id, status)
