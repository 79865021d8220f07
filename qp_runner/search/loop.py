"""A search: suggestions become runs, batch by batch, and the study learns what came of them."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qp_runner.config import SearchSection
from qp_runner.config.compose import Job
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.run.build import compile_schedule
from qp_runner.run.identity import job_digest
from qp_runner.run.labels import sweep_title
from qp_runner.run.outcome import final_metrics
from qp_runner.schedule import Time
from qp_runner.search.confirm import Confirmation, numbers
from qp_runner.search.space import Space
from qp_runner.search.study import FILE, Study
from qp_runner.search.trials import Trial, firsts
from qp_runner.sweep.batch import Batch
from qp_runner.sweep.earlier import is_finished
from qp_runner.sweep.outline import Lengths, outline
from qp_runner.sweep.parent import ParentRun
from qp_runner.tracking import Record

LEAST_BATCH = 4
IDLE = 100  # suggestions in a row without a new run, after which a search ends
REFERENCE = 0  # the float run's number


@dataclass
class Search:
    """One search at work. What has to survive the process is in the study and in the folders of the runs.

    Attributes:
        parent: the open sweep; the study is in its folder.
        base: the run that is varied.
        space: the ranges in force.
        compose: a run from its overrides; raises ConfigError.
    """

    parent: ParentRun
    base: Job
    section: SearchSection
    space: Space
    metric: Metric
    compose: Callable[[Sequence[str]], Job]

    def __post_init__(self) -> None:
        directions = {"metric": "maximize" if self.metric.higher_is_better else "minimize", "footprint": "minimize"}
        self._study = Study(self.parent.folder / FILE, self.section, self.space, directions=directions)
        self._lengths = Lengths()
        self._jobs: dict[int, Job] = {}

    def batches(self, workers: int) -> Iterator[Batch]:
        """What to launch; the study knows what came of a batch before the next one is chosen."""
        from qp_runner.search.results import keep, report_progress  # here: draws

        study, folder, metric = self._study, self.parent.folder, self.metric
        if study.trials:
            ended = len(study.trials) - len(self._running())
            print(f"goes on with {folder}: {ended} trials ended before", file=sys.stderr)
        size = self.section.batch or max(LEAST_BATCH, workers)
        reference = self._reference()
        while True:
            trials = self._next_trials(size)
            batch = self._batch([*reference, *(trial.job for trial in trials if trial.job is not None)])
            if not trials and not batch.waves:
                break
            yield batch
            for trial in trials:
                self._record_outcome(trial)
            report_progress(study.trials, folder=folder, metric=metric, wanted=self.section.trials)
            reference = []
        figures = self._figures(folder / str(REFERENCE)) if self.section.reference else {}
        keep(study.trials, parent=self.parent, metric=metric, reference=figures, title=sweep_title(self.base.choices))
        yield from self._confirm()

    def _confirm(self) -> Iterator[Batch]:
        """The best trial and the schedules it is compared with, with fresh seeds; then keeps what they gave."""
        from qp_runner.search.results import keep_confirmation

        if not self.section.confirm:
            return
        jobs, folder = self._jobs, self.parent.folder
        confirmation = Confirmation(
            self.base, self.section, self.metric, self.compose, jobs, lambda run: self._figures(folder / str(run))
        )
        others = confirmation.others()
        yield self._batch(numbers(others))
        chosen = confirmation.found(self._study.trials, others)
        if chosen is None:
            print("search: no trial of the front is as small as what it would be compared with", file=sys.stderr)
            return
        trial, found = chosen
        yield self._batch(numbers([found]))
        keep_confirmation(confirmation.results(trial, [found, *others]), parent=self.parent, metric=self.metric)

    def _reference(self) -> list[int]:
        """The float run, which also stores the states that the other runs start from."""
        if not self.section.reference:
            return []
        self._jobs[REFERENCE] = self.compose([*self.base.overrides, "~schedule.events"])
        return [REFERENCE]

    def _next_trials(self, size: int) -> list[Trial]:
        """The trials of the batch under way, those that a killed process left running included."""
        study = self._study
        for trial in self._running():
            self._make_run(trial)
        runs, asked = len(firsts(study.trials)), len(study.trials)
        if study.goal <= runs < self.section.trials and not self._running():
            study.set_goal(min(runs + size, self.section.trials))
        while len(firsts(study.trials)) < min(study.goal, self.section.trials) and not self._is_exhausted():
            self._make_run(study.ask())
        if len(study.trials) > asked and self._idle() >= IDLE:
            print(f"search: {IDLE} suggestions in a row brought no new run", file=sys.stderr)
        return self._running()

    def _is_exhausted(self) -> bool:
        """Whether every combination was suggested, or nothing new comes."""
        combinations = {tuple(trial.changes.values()) for trial in self._study.trials}
        return len(combinations) >= self.space.size or self._idle() >= IDLE

    def _idle(self) -> int:
        """How many of the latest suggestions brought no new run."""
        runs = firsts(self._study.trials)
        return len(self._study.trials) - (runs[-1].number + 1 if runs else 0)

    def _make_run(self, trial: Trial) -> None:
        """Finds the run that a suggestion is, or rejects it as infeasible."""
        try:
            job = self.compose([*self.base.overrides, *(f"{key}={value}" for key, value in trial.changes.items())])
            compile_schedule(job.config, steps_per_epoch=self._lengths.steps_per_epoch(job.config))
        except ConfigError as error:
            self._study.reject(trial, str(error))
            return
        digest, known = job_digest(job.config), {each.digest: each.job for each in firsts(self._study.trials)}
        number = known.get(digest)
        if number is None:
            number = len(known) + self.section.reference
        self._jobs[number] = job
        if trial.job is None:
            self._study.assign(trial, job=number, digest=digest, order=job.config.events().name)

    def _batch(self, numbers: Iterable[int]) -> Batch:
        """The runs of these numbers that have not ended yet, planned as those of any sweep."""
        ended = {trial.job for trial in self._study.trials if trial.state != "running"}
        numbers = [each for each in sorted({*numbers} - ended) if not is_finished(self.parent.folder / str(each))]
        jobs = [self._jobs[number] for number in numbers]
        overrides = {number: self._jobs[number].overrides for number in numbers}
        if not self.base.config.checkpoint.enabled:
            return Batch(overrides, [numbers] if numbers else [])
        planned = outline(jobs, lengths=self._lengths)
        steps = {number: self._moments(self._jobs[number]) for number in numbers}
        for place, needed in planned.checkpoint_steps.items():
            steps[numbers[place]] |= set(needed)
        waves = [[numbers[place] for place in wave] for wave in planned.waves]
        return Batch(overrides, waves, {number: sorted(each) for number, each in steps.items()})

    def _moments(self, job: Job) -> set[int]:
        """The steps at which runs of this search may part: the times that its ranges name."""
        per_epoch = self._lengths.steps_per_epoch(job.config)
        total = job.config.trainer.epochs * per_epoch
        steps = {Time.parse(each).to_step(total_steps=total, steps_per_epoch=per_epoch) for each in self.space.times()}
        return {step for step in steps if 0 < step <= total}

    def _record_outcome(self, trial: Trial) -> None:
        """Records how a trial's run has ended; a run that ended for an earlier trial is not looked at again."""
        same = [each for each in self._study.trials if each.job == trial.job and each.state != "running"]
        folder = self.parent.folder / str(trial.job)
        figures = same[0].figures if same else self._figures(folder)
        if figures and all(math.isfinite(figures[name]) for name in self.section.objectives):
            self._study.finish(trial, figures)
        else:
            self._study.fail(trial, same[0].reason if same else _reason(folder))

    def _figures(self, folder: Path) -> dict[str, float]:
        """A finished run's figures, as `Trial` has them; empty for a run that did not finish."""
        if not is_finished(folder):
            return {}
        known, name = final_metrics(folder), self.metric.name
        return {
            "metric": known.get(f"final/val_{name}", math.nan),
            "test": known.get(f"final/{name}", math.nan),
            "footprint": known["final/footprint_total_mb"],
            "steps": known["final/total_steps"],
            "computed": known["time/computed_steps"],
        }

    def _running(self) -> list[Trial]:
        return [trial for trial in self._study.trials if trial.state == "running"]


def _reason(folder: Path) -> str:
    """Why a run has no figures."""
    record = Record.load(folder)
    if record is None:
        return "it left no record"
    if record.status == "FINISHED":
        return "its metric is not finite"
    return record.error or "it ended without an error (killed, or out of memory)"
