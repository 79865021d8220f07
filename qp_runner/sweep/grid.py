"""A grid: every combination of the swept values, planned so that what jobs share is computed once."""

import sys
from collections.abc import Sequence
from pathlib import Path

from qp_runner.config.compose import Job, Request
from qp_runner.run.labels import schedule_label, sweep_title
from qp_runner.sweep.batch import Batch, SweepPlan
from qp_runner.sweep.outline import outline, sharing
from qp_runner.sweep.plan import earlier_attempt, finished, sweep_digest


def plan_grid(request: Request) -> SweepPlan:
    """Plans the combinations: which are done, what the others share, in which waves they run."""
    jobs = request.jobs()
    title, config = sweep_title(jobs[0].choices), jobs[0].config
    overrides = {number: job.overrides for number, job in enumerate(jobs)}
    if not config.checkpoint.enabled:
        return SweepPlan(title, len(jobs), lambda *_: iter([Batch(overrides, [range(len(jobs))])]))
    digest = sweep_digest(jobs)
    before = None
    if request.numbered and not config.checkpoint.fresh:
        before = earlier_attempt(digest, results=Path(config.results), folder=request.folder)
    done = frozenset[int]() if before is None else finished(before, jobs=len(jobs))
    if before is not None:
        _report_done(jobs, before, done)
    planned = outline(jobs, done=done)
    for line in sharing(planned):
        print(line, file=sys.stderr)
    batch = Batch(overrides, planned.waves, planned.checkpoint_steps)
    return SweepPlan(title, len(jobs), lambda *_: iter([batch]), digest, before)


def _report_done(jobs: Sequence[Job], before: Path, done: frozenset[int]) -> None:
    print(f"goes on with {before}: {len(done)} of {len(jobs)} jobs finished before", file=sys.stderr)
    for number in sorted(done):
        job = jobs[number]
        title = f"{schedule_label(job.choices['schedule'], job.overrides)} · seed {job.config.seed}"
        print(f"[{number + 1}/{len(jobs)}] {title}: finished before, skipped", file=sys.stderr)
