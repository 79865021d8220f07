"""What an earlier attempt at a sweep has left: the jobs that need not run again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from qp_runner.config import Config
from qp_runner.config.compose import Job
from qp_runner.run.identity import job_digest
from qp_runner.run.task import build_data, build_task
from qp_runner.tracking import Record
from qp_runner.training import Content, Tensors, content_of, seed_everything
from qp_runner.training.identity import digest


@dataclass(frozen=True)
class Finished:
    """The jobs of a sweep that have ended well, by number.

    Attributes:
        same: those that would start from the same data and initial weights now: they need not run again.
        changed: the others.
    """

    same: frozenset[int] = frozenset()
    changed: frozenset[int] = frozenset()


def sweep_digest(jobs: Sequence[Job]) -> str:
    """What makes two commands the same sweep: the same runs, in the same order."""
    return digest([job_digest(job.config) for job in jobs])


def finished(folder: Path, jobs: Sequence[Config]) -> Finished:
    """The jobs that have ended well and left their records in a sweep's folder.

    Their data and networks are built again, to compare; data once for all jobs that are alike in them. Raises
    ConfigError for what can't be built.
    """
    ended = [number for number in range(len(jobs)) if is_finished(folder / str(number))]
    now = contents({number: jobs[number] for number in ended})
    same = {number for number, content in now if content.digest and content.digest == _recorded(folder / str(number))}
    return Finished(frozenset(same), frozenset(ended) - same)


def contents(jobs: dict[int, Config]) -> Iterator[tuple[int, Content]]:
    """What each job would start from now, in any order."""

    def of_data(number: int) -> str:
        return digest(jobs[number].data.model_dump())

    for _, group in groupby(sorted(jobs, key=of_data), key=of_data):
        data, tensors, known = None, Tensors(), dict[str, Content]()
        for number in group:
            config = jobs[number]
            key = digest([config.task.model_dump(), config.model.model_dump(), config.trainer.batch_size, config.seed])
            if key not in known:
                seed_everything(config.seed)  # as a run does
                data = build_data(config) if data is None else data
                known[key] = content_of(build_task(config, data=data), tensors)
            yield number, known[key]


def is_finished(folder: Path) -> bool:
    """Whether the run of a folder has ended well and left its records."""
    record = Record.load(folder)
    try:
        return record is not None and record.status == "FINISHED" and (folder / "metrics.csv").stat().st_size > 0
    except OSError:
        return False


def _recorded(folder: Path) -> str:
    """The content that a run has recorded."""
    record = Record.load(folder)
    return str(record.tags.get("content", "")) if record is not None else ""
