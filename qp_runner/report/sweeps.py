"""Which runs of a store a report is about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qp_runner.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
SHOWN = 8


def choose(runs: Sequence["Run"], *, sweep: str, task: str | None, store: str) -> tuple[list["Run"], str]:
    """The runs of a sweep, and a title.

    Args:
        runs: of the whole store, the oldest first.
        sweep: `latest` (all runs, if there is no sweep), `all`, or a sweep's id, name, or parent run id.
        task: only its runs; None for all tasks.
        store: as the user named it, for errors.
    """
    parents = {run.info.run_id: run for run in runs if _is_parent(run)}
    jobs = [run for run in runs if run.info.run_id not in parents]
    if not jobs:
        raise ConfigError("--store", store, "it holds no runs yet; `scripts/run` makes some")
    if task is not None:
        jobs = _of_task(jobs, task)
    if sweep == "all":
        return jobs, "all runs"
    names = {_sweep(job): _title(job, parents) for job in jobs if _sweep(job)}  # the latest sweep comes last
    if sweep == "latest":
        chosen = next(reversed(names), "") if names else ""
        return [job for job in jobs if _sweep(job) == chosen], names.get(chosen, "runs outside any sweep")
    chosen = _find(sweep, names, parents)
    return [job for job in jobs if _sweep(job) == chosen], names[chosen]


def _find(sweep: str, names: dict[str, str], parents: dict[str, "Run"]) -> str:
    if sweep in parents:
        sweep = _sweep(parents[sweep])
    if sweep in names:
        return sweep
    matches = [known for known, title in names.items() if title == sweep or title.split(" · ")[0] == sweep]
    if matches:
        return matches[-1]
    known = ", ".join(list(reversed(names))[:SHOWN]) or "none"
    raise ConfigError("--sweep", sweep, f"latest, all, or one of the store's sweeps: {known}")


def _of_task(jobs: list["Run"], task: str) -> list["Run"]:
    found = [job for job in jobs if job.data.tags.get("task") == task]
    if not found:
        known = ", ".join(sorted({job.data.tags.get("task", "?") for job in jobs}))
        raise ConfigError("--task", task, f"a task that the store has runs of: {known}")
    return found


def _is_parent(run: "Run") -> bool:
    """A parent run has no schedule."""
    return PARENT not in run.data.tags and "schedule" not in run.data.tags


def _sweep(run: "Run") -> str:
    return str(run.data.tags.get("sweep", ""))


def _title(job: "Run", parents: dict[str, "Run"]) -> str:
    parent = parents.get(job.data.tags.get(PARENT, ""))
    return str(parent.info.run_name) if parent is not None else _sweep(job)
