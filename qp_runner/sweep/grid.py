"""What a sweep's parent has to know before its first job: what goes on, what is shared, in which waves."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qp_runner.config.compose import Job
from qp_runner.run.labels import schedule_label
from qp_runner.sweep import Batch, Sweep, SweepPlan
from qp_runner.sweep.plan import earlier_attempt, finished, outline, sweep_digest


def plan_sweep(planned: list[Job], overrides: Sequence[str]) -> tuple[SweepPlan, list[str]]:
    """The sweep's plan and, where it goes on with an earlier attempt, the override that names that one's folder."""
    from qp_runner.cli.show_sharing import show_sharing  # here: training does without what draws on a terminal

    config, title = planned[0].config, sweep_title(planned[0])
    uri, experiment, section = config.store_uri(), config.task.name, config.checkpoint
    if not section.enabled or planned[0].choices.get("hydra/sweeper") != "trunks":
        return SweepPlan(title, experiment, len(planned), uri), []
    wanted, named = sweep_digest(planned), set_value(overrides, "hydra.sweep.dir")
    before = _before(planned, overrides, wanted=wanted, named=named)
    done, parent = frozenset[int](), None
    if before is not None:
        known = Sweep.load(before)
        done, parent = finished(before, jobs=len(planned)), known.parent_run_id if known and known.uri == uri else None
        _say_what_is_done(planned, before, done)
    made = outline(planned, done=done)
    show_sharing(made, to_stderr=True)
    plan = SweepPlan(
        title=title,
        experiment=experiment,
        jobs=len(planned),
        uri=uri,
        batches=lambda *_: iter([Batch({n: job.overrides for n, job in enumerate(planned)}, made.waves, made.also)]),
        digest=wanted,
        since=time.time() if section.fresh else 0.0,
        parent_run_id=parent,
    )
    return plan, [f"hydra.sweep.dir='{before}'"] if before is not None and named is None else []


def sweep_title(job: Job) -> str:
    """What people call a sweep: its experiment."""
    title = job.choices.get("experiment")
    return title if title and title != "None" else "sweep"


def set_value(overrides: Sequence[str], key: str) -> str | None:
    """What the command line sets a key to."""
    found = (each.partition("=")[2].strip("\"'") for each in overrides if each.startswith(f"{key}="))
    return next(found, None)


def _before(planned: list[Job], overrides: Sequence[str], *, wanted: str, named: str | None) -> Path | None:
    """The folder of the attempt that this sweep goes on with, if there is one to go on with."""
    config = planned[0].config
    if config.checkpoint.fresh or set_value(overrides, "hydra.sweep.subdir") is not None:
        return None
    return earlier_attempt(wanted, results=Path(config.results), folder=None if named is None else Path(named))


def _say_what_is_done(planned: list[Job], before: Path, done: frozenset[int]) -> None:
    print(f"goes on with {before}: {len(done)} of {len(planned)} jobs finished before", file=sys.stderr)
    for number in sorted(done):
        job = planned[number]
        title = f"{schedule_label(job.choices['schedule'], job.overrides)} · seed {job.config.seed}"
        print(f"[{number + 1}/{len(planned)}] {title}: finished before, skipped", file=sys.stderr)
