"""What the jobs of a sweep share, worked out before the first of them: the prefix tree and the waves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qp_runner.config import Config
from qp_runner.config.compose import Job
from qp_runner.config.instantiate import flatten
from qp_runner.errors import ConfigError
from qp_runner.report.words import plural
from qp_runner.run.build import compile_schedule
from qp_runner.run.identity import identity
from qp_runner.run.task import build_task
from qp_runner.schedule import Stage
from qp_runner.sweep import tree
from qp_runner.training import Identity, content_of
from qp_runner.training.identity import digest, without_end

SHOWN_VALUES = 6
UNKNOWN_STEPS_PER_EPOCH = 1000  # stands in where the data, and so the length of an epoch, is not at hand


@dataclass(frozen=True)
class Outline:
    """A sweep's jobs and how they share training.

    Attributes:
        identities: by job, as far as they are known before a job starts.
        epochs: asked for, by job.
        plan: over the jobs `numbers`, by their places in it.
        numbers: the jobs that are still to run.
        note: what had to be assumed; empty where nothing had.
    """

    jobs: Sequence[Job]
    identities: Sequence[Identity]
    steps_per_epoch: Sequence[int]
    plan: tree.Plan
    numbers: tuple[int, ...]
    note: str = ""

    @property
    def epochs_asked(self) -> int:
        """The epochs of all jobs still to run."""
        return sum(self.jobs[number].config.trainer.epochs for number in self.numbers)

    @property
    def epochs_computed(self) -> float:
        """The epochs to compute."""
        return sum(node.steps / self.steps_per_epoch[self.numbers[node.runs[0]]] for node in self.plan.trees)

    @property
    def waves(self) -> tuple[tuple[int, ...], ...]:
        """The plan's waves, by job."""
        return tuple(tuple(self.numbers[place] for place in wave) for wave in self.plan.waves)

    @property
    def checkpoint_steps(self) -> dict[int, list[int]]:
        """By job, the steps at which it has to leave its state for others."""
        return {self.numbers[place]: sorted(steps) for place, steps in self.plan.checkpoint_steps.items()}


def outline(jobs: Sequence[Job], *, done: frozenset[int] = frozenset(), lengths: "Lengths | None" = None) -> Outline:
    """Plans the jobs that are not done. Data that can't be loaded here is assumed to have some length, and noted."""
    lengths = lengths or Lengths()
    steps = [lengths.steps_per_epoch(job.config) for job in jobs]
    compiled: dict[str, tuple[Stage, ...]] = {}  # schedules that are alike are compiled once
    found = []
    for job, each in zip(jobs, steps, strict=True):
        key = digest([job.config.schedule.events, job.config.trainer.epochs, each])
        if key not in compiled:
            compiled[key] = compile_schedule(job.config, steps_per_epoch=each)
        found.append(identity(job.config, stages=compiled[key], steps_per_epoch=each))
    for number, job in enumerate(jobs):
        if lengths.problem(job.config):
            found[number] = replace(found[number], context={**found[number].context, "content": f"of job {number}"})
    numbers = tuple(number for number in range(len(jobs)) if number not in done)
    plan = tree.plan([path(found[number]) for number in numbers])
    return Outline(jobs, found, steps, plan, numbers, lengths.note)


def path(own: Identity) -> tree.Path:
    """A run as the tree sees it. How masks and scales are chosen counts from its first event on."""
    compress = digest(own.compress)
    firing = [stage for stage in own.stages if stage.fires]
    fired = {
        step: digest([*(without_end(stage) for stage in firing if stage.first == step), compress])
        for step in own.events
    }
    return tree.Path(own.root, own.stages[-1].last + 1, fired)


def sharing(made: Outline) -> list[str]:
    """What is shared, in lines for a person: epochs asked for and to compute, the waves, and what keeps runs apart.

    Empty where no job is left to run.
    """
    if not made.numbers:
        return []
    asked, computed = made.epochs_asked, made.epochs_computed
    saving = f"{asked / computed:.2f} × less" if computed else "nothing to share"
    waves = ", ".join(str(len(wave)) for wave in made.waves)
    runs = f"{plural(len(made.numbers), 'run')} ask{'s' if len(made.numbers) == 1 else ''}"
    total = f"{runs} for {asked:g} epochs; {computed:.4g} are computed ({saving})"
    return [f"{total}, in waves of {waves}", *([made.note] if made.note else []), *_differences(made)]


def _differences(made: Outline) -> list[str]:
    """Trunks share nothing with each other: the keys in which they differ, with their values."""
    if len(made.plan.trees) < 2:
        return []
    firsts = [made.identities[made.numbers[node.runs[0]]] for node in made.plan.trees]
    lines = [f"{len(firsts)} trunks share nothing, because they differ in:"]
    for key, values in tree.differing([flatten(own.context) for own in firsts]).items():
        shown = ", ".join(value for value, _ in values[:SHOWN_VALUES])
        more = f" and {len(values) - SHOWN_VALUES} more values" if len(values) > SHOWN_VALUES else ""
        lines.append(f"  {key}: {shown}{more}")
    return lines


class Lengths:
    """What planning has to know of data and task: they are loaded once for all jobs that are alike in them."""

    def __init__(self) -> None:
        self.note = ""
        self._known: dict[str, tuple[int, str]] = {}

    def steps_per_epoch(self, config: Config) -> int:
        """Of a run; raises ConfigError for what can't be built, data that are not there excepted."""
        return self._of(config)[0]

    def problem(self, config: Config) -> str:
        """Why a run can share nothing, as far as its data decide it; empty if it can."""
        return self._of(config)[1]

    def _of(self, config: Config) -> tuple[int, str]:
        key = digest([config.task.model_dump(), config.data.model_dump(), config.trainer.batch_size])
        if key not in self._known:
            try:
                task = build_task(config)
                self._known[key] = task.steps_per_epoch, content_of(task).problem
                if problem := self._known[key][1]:
                    self.note = f"runs share nothing: {problem}"
            except ConfigError as error:
                if not error.key.startswith("data."):
                    raise
                self.note = f"without the data, an epoch is taken to have {UNKNOWN_STEPS_PER_EPOCH} steps: {error}"
                self._known[key] = UNKNOWN_STEPS_PER_EPOCH, ""
        return self._known[key]
