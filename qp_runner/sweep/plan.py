"""What of a sweep was done before its first job starts."""

import json
from collections.abc import Sequence
from pathlib import Path

from qp_runner.config.compose import Job
from qp_runner.locking import RUNNING, is_locked
from qp_runner.run.identity import job_digest
from qp_runner.sweep.parent import Sweep
from qp_runner.training.identity import digest


def sweep_digest(jobs: Sequence[Job]) -> str:
    """What makes two commands the same sweep: the same runs, in the same order."""
    return digest([job_digest(job.config) for job in jobs])


def earlier_attempt(wanted: str, *, results: Path, folder: Path | None) -> Path | None:
    """The folder of the latest attempt at this sweep, unless it is still at work.

    Args:
        wanted: the sweep's digest.
        results: where sweeps lie if nothing else is said.
        folder: the one folder to look at, where the command line names it.
    """
    candidates = sorted((results / "sweeps").glob("*"), reverse=True) if folder is None else [folder]
    for each in candidates:
        known = Sweep.load(each)
        if known is not None and known.digest == wanted and not is_locked(each / RUNNING):
            return each
    return None


def finished(folder: Path, *, jobs: int) -> frozenset[int]:
    """The jobs of a sweep's folder that have ended well and left their records."""
    return frozenset(number for number in range(jobs) if is_finished(folder / str(number)))


def is_finished(folder: Path) -> bool:
    """Whether the run of a folder has ended well and left its records."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return record.get("status") == "FINISHED" and (folder / "metrics.csv").stat().st_size > 0
    except (OSError, ValueError, AttributeError):
        return False
