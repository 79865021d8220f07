"""A search at work: suggestions become runs, batch by batch; what came of the runs is told to the study."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qp_runner.config import SearchSection
from qp_runner.config.compose import Composer, Job, one_line_errors
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.run.build import compile_schedule
from qp_runner.run.identity import job_digest
from qp_runner.run.outcome import recorded
from qp_runner.schedule import Time
from qp_runner.search.space import Space
from qp_runner.search.study import Study
from qp_runner.search.trials import Trial
from qp_runner.sweep import Batch, Sweep
from qp_runner.sweep.plan import Lengths, is_finished, outline

LEAST_BATCH = 4
IDLE = 100  # suggestions in a row that bring no new run: then there is no more to find
REFERENCE = 0  # the float run's number


class Search:
    """One search in one process; all that has to outlive it is in the study and in the folders of the runs."""

    def __init__(self, *, base: Job, section: SearchSection, space: Space, study: Study, metric: Metric) -> None:
        self.base, self.section, self.space, self.study, self.metric = base, section, space, study, metric
        self._lengths = Lengths()
        self._jobs: dict[int, Job] = {}
        self._folder = Path()

    def batches(self, folder: Path, sweep: Sweep, workers: int) -> Iterator[Batch]:
        """What the sweeper launches; each batch is told to the study before the next one is asked for."""
        from qp_runner.search.results import keep, say_progress  # here: draws

        self._folder, composer = folder.resolve(), Composer()
        self.study.note(folder=str(self._folder))
        self._jobs |= self._reference(composer)
        size = self.section.batch or max(LEAST_BATCH, workers)
        while True:
            trials = self._asked(composer, size)
            batch = self._batch(trials)
            if not trials and not batch.waves:
                break
            yield batch
            self._tell(trials)
            say_progress(self.study.trials(), folder=self._folder, metric=self.metric, wanted=self.section.trials)
        keep(self.study.trials(), folder=self._folder, sweep=sweep, metric=self.metric, reference=self._float_figures())

    def _asked(self, composer: Composer, size: int) -> list[Trial]:
        """The trials of the batch under way, those that an earlier process left running included; asks for the rest."""
        for trial in self._running():
            self._place(composer, trial)
        trials, begun = self.study.trials(), int(self.study.notes.get("asked", 0))
        if len(trials) > begun or not self._running():
            before = len({trial.job for trial in trials[:begun] if trial.job is not None})
            self._ask(composer, until=min(before + size, self.section.trials))
        return self._running()

    def _ask(self, composer: Composer, *, until: int) -> None:
        """Asks until there are so many runs, or until nothing new comes."""
        idle = 0
        while (runs := len(self.study.digests())) < until and idle < IDLE and not self._is_exhausted():
            self._place(composer, self.study.ask())
            idle = 0 if len(self.study.digests()) > runs else idle + 1
        trials = self.study.trials()
        if idle == IDLE:
            self.study.note(exhausted_at=len(trials))
            print(f"search: {IDLE} suggestions in a row brought no new run", file=sys.stderr)
        self.study.note(asked=len(trials))

    def _is_exhausted(self) -> bool:
        """Whether every combination was suggested, or the sampler was seen to suggest nothing new."""
        trials = self.study.trials()
        told = {tuple(trial.changes.values()) for trial in trials}
        return len(told) >= self.space.size or len(trials) == self.study.notes.get("exhausted_at")

    def _place(self, composer: Composer, trial: Trial) -> None:
        """Makes a suggestion a run, or an infeasible trial."""
        try:
            job = self._compose(composer, [f"{key}={value}" for key, value in trial.changes.items()])
            compile_schedule(job.config, steps_per_epoch=self._lengths.steps_per_epoch(job.config))
        except ConfigError as error:
            self.study.tell_infeasible(trial, str(error))
            return
        own, known = job_digest(job.config), self.study.digests()
        number = known.get(own, len(known) + self.section.reference)
        self._jobs[number] = job
        self.study.describe(trial, job=number, digest=own, order=job.config.events().name)

    def _compose(self, composer: Composer, changes: Sequence[str]) -> Job:
        overrides = [*self.base.overrides, *changes]
        with one_line_errors(overrides):
            return composer.job(overrides)

    def _reference(self, composer: Composer) -> dict[int, Job]:
        """The float run, which also leaves the state from which every other one parts."""
        return {REFERENCE: self._compose(composer, ["~schedule.events"])} if self.section.reference else {}

    def _batch(self, trials: Sequence[Trial]) -> Batch:
        """The runs that trials are in need of and that have not ended yet, planned as any sweep's."""
        told = {trial.job for trial in self.study.trials() if trial.state in ("finished", "failed")}
        wanted = {REFERENCE} if self.section.reference else set()
        wanted |= {trial.job for trial in trials if trial.job is not None} - told
        numbers = [number for number in sorted(wanted) if not is_finished(self._folder / str(number))]
        jobs = {number: self._jobs[number].overrides for number in numbers}
        if not self.base.config.checkpoint.enabled:
            return Batch(jobs, [numbers] if numbers else [])
        made = outline([self._jobs[number] for number in numbers], lengths=self._lengths)
        also = {number: self._moments(self._jobs[number]) for number in numbers}
        for place, steps in made.also.items():
            also[numbers[place]] |= set(steps)
        waves = [[numbers[place] for place in wave] for wave in made.waves]
        return Batch(jobs, waves, {number: sorted(steps) for number, steps in also.items()})

    def _moments(self, job: Job) -> set[int]:
        """The steps at which runs of this search may part: the moments that its ranges of times name."""
        per_epoch = self._lengths.steps_per_epoch(job.config)
        total = job.config.trainer.epochs * per_epoch
        steps = {Time.parse(each).to_step(total_steps=total, steps_per_epoch=per_epoch) for each in self.space.times()}
        return {step for step in steps if 0 < step <= total}

    def _tell(self, trials: Sequence[Trial]) -> None:
        """Tells what came of the runs; a run that ended before is not looked at again."""
        for trial in trials:
            told = [each for each in self.study.trials() if each.job == trial.job and each.state != "running"]
            folder = Path(told[0].folder) if told else self._folder / str(trial.job)
            figures = told[0].figures if told else self._figures(folder)
            if figures and all(math.isfinite(figures[name]) for name in self.section.objectives):
                self.study.tell(trial, figures, folder=folder)
            else:
                reason = told[0].reason if told else _reason(folder)
                self.study.tell_failed(trial, reason, folder=folder)

    def _figures(self, folder: Path) -> dict[str, float]:
        """A finished run's figures as trials have them; empty for a run that did not finish."""
        if not is_finished(folder):
            return {}
        known, name = recorded(folder), self.metric.name
        return {
            "metric": known.get(f"final/val_{name}", math.nan),
            "test": known.get(f"final/{name}", math.nan),
            "footprint": known["final/footprint_total_mb"],
            "steps": known["final/total_steps"],
            "computed": known["time/computed_steps"],
        }

    def _float_figures(self) -> dict[str, float]:
        return self._figures(self._folder / str(REFERENCE)) if self.section.reference else {}

    def _running(self) -> list[Trial]:
        return [trial for trial in self.study.trials() if trial.state == "running"]


def _reason(folder: Path) -> str:
    """Why a run has no figures."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it left no record"
    if record.get("status") == "FINISHED":
        return "its metric is not finite"
    return str(record.get("error") or "it ended without a word (killed, or out of memory)")
