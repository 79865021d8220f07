"""A grid: every combination of the swept values, planned so that what jobs share is computed once."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qp_runner.config import Config
from qp_runner.config.compose import Job, Request
from qp_runner.errors import ConfigError
from qp_runner.run.exported import missing
from qp_runner.run.labels import schedule_label, sweep_title
from qp_runner.sweep.batch import Batch, SweepPlan
from qp_runner.sweep.claim import Claim
from qp_runner.sweep.earlier import Finished, finished, sweep_digest
from qp_runner.sweep.outline import outline, sharing
from qp_runner.tracking import Record
from qp_runner.training.identity import digest


def plan_grid(request: Request, claim: Claim) -> SweepPlan:
    """Plans the combinations: which are done, what the others share, in which waves they run."""
    jobs = request.jobs()
    check_comparable([job.config for job in jobs])
    title, config = sweep_title(jobs[0].choices), jobs[0].config
    overrides = {number: job.overrides for number, job in enumerate(jobs)}
    if not config.checkpoint.enabled:
        return SweepPlan(title, len(jobs), lambda *_: iter([Batch(overrides, [range(len(jobs))])]))
    digest = sweep_digest(jobs)
    before = None
    if request.numbered and not config.checkpoint.fresh:
        before = claim.earlier(digest, results=Path(config.results), named=request.folder)
    ended = Finished() if before is None else finished(before, [job.config for job in jobs])
    shortcomings: list[str] = []
    if before is not None:
        shortcomings = [*_shortcomings(jobs, before, ended)]
        _report(jobs, before, ended)
    planned = outline(jobs, done=ended.same)
    for line in sharing(planned):
        print(line, file=sys.stderr)
    batch = Batch(overrides, planned.waves, planned.checkpoint_steps)
    return SweepPlan(title, len(jobs), lambda *_: iter([batch]), digest, before, shortcomings=shortcomings)


def check_comparable(configs: Sequence[Config]) -> None:
    """Raises ConfigError for a sweep over schedules whose runs may end early."""
    early = next((each for each in configs if each.trainer.early_stop.patience is not None), None)
    if early is not None and len({digest(each.schedule.events) for each in configs}) > 1:
        allowed = "null in a sweep over schedules: runs that end early have recovered for different times"
        raise ConfigError("trainer.early_stop.patience", early.trainer.early_stop.patience, allowed)


def _shortcomings(jobs: Sequence[Job], before: Path, ended: Finished) -> Iterator[str]:
    """What is not as it should be of the exported files of jobs that are skipped."""
    for number in sorted(ended.same):
        folder = before / str(number)
        record = Record.load(folder)
        found = (record.error if record else None) or missing(jobs[number].config, folder)
        if found:
            yield f"job {number + 1} of {len(jobs)}, skipped: {found}"


def _report(jobs: Sequence[Job], before: Path, ended: Finished) -> None:
    print(f"goes on with {before}: {len(ended.same)} of {len(jobs)} jobs finished before", file=sys.stderr)
    for number in sorted(ended.same | ended.changed):
        job = jobs[number]
        title = f"[{number + 1}/{len(jobs)}] {schedule_label(job.choices['schedule'], job.overrides)}"
        why = (
            "skipped"
            if number in ended.same
            else "runs again, as its data or initial weights are not known to be the same"
        )
        print(f"{title} · seed {job.config.seed}: finished before, {why}", file=sys.stderr)
