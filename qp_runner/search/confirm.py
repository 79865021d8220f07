"""What a search found, trained again with fresh seeds beside other schedules, and compared on test data.

A search picks the best of many runs of one seed, so its own figures flatter it; these runs chose nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from qp_runner.config import SearchSection
from qp_runner.config.compose import Job
from qp_runner.metric import Metric
from qp_runner.search.trials import Trial, best

FIRST = 100_000  # number of the first of these runs, above those of any trial
PLACES = 100  # numbers that each contender has
FOUND = "found"


@dataclass(frozen=True)
class Contender:
    """A schedule that is compared.

    Attributes:
        name: `found`, or the key in `search.against`.
        order: the schedule's readable name.
        runs: the number of the run of each seed.
    """

    name: str
    order: str
    runs: Mapping[int, int]


@dataclass(frozen=True)
class Results:
    """What the runs gave: by contender and seed, the metric on test data; by contender, the footprint in Mb."""

    trial: Trial
    contenders: Sequence[Contender]
    test: Mapping[str, Mapping[int, float]]
    footprint: Mapping[str, float]


@dataclass
class Confirmation:
    """The runs that confirm a search.

    Attributes:
        base: the run that the search varied; its seed is the search's own.
        compose: a run from its overrides.
        jobs: filled with the runs to make, by number.
        figures: of a finished run, by number; empty for one without.
    """

    base: Job
    section: SearchSection
    metric: Metric
    compose: Callable[[Sequence[str]], Job]
    jobs: dict[int, Job]
    figures: Callable[[int], Mapping[str, float]]

    def others(self) -> list[Contender]:
        """The schedules that `search.against` names."""
        plain = [each for each in self.base.overrides if not chooses_schedule(each)]
        return [
            self._contender(name, [*plain, *overrides], place)
            for place, (name, overrides) in enumerate(self.section.against.items())
        ]

    def found(self, trials: Sequence[Trial], others: Sequence[Contender]) -> tuple[Trial, Contender] | None:
        """The trial with the best validation metric of those with no more footprint than any of the others.

        None where there is no such trial on the front.
        """
        limit = min(self._footprint(each) for each in others)
        chosen = pick(trials, self.metric, limit=limit)
        if chosen is None or chosen.job is None:
            return None
        changes = [f"{key}={value}" for key, value in chosen.changes.items()]
        return chosen, self._contender(FOUND, [*self.base.overrides, *changes], len(others) + chosen.job)

    def results(self, trial: Trial, contenders: Sequence[Contender]) -> Results:
        """What the finished runs gave."""
        test = {
            each.name: {seed: self.figures(run)["test"] for seed, run in each.runs.items() if self.figures(run)}
            for each in contenders
        }
        return Results(trial, contenders, test, {each.name: self._footprint(each) for each in contenders})

    def _contender(self, name: str, overrides: Sequence[str], place: int) -> Contender:
        plain = [each for each in overrides if not each.lstrip("+").startswith("seed=")]
        runs, first = dict[int, int](), self.base.config.seed + 1
        for index in range(self.section.confirm):
            number = FIRST + PLACES * place + index
            self.jobs[number] = self.compose([*plain, f"seed={first + index}"])
            runs[first + index] = number
        return Contender(name, self.jobs[FIRST + PLACES * place].config.events().name, runs)

    def _footprint(self, contender: Contender) -> float:
        known = [self.figures(run)["footprint"] for run in contender.runs.values() if self.figures(run)]
        return fmean(known) if known else float("inf")


def pick(trials: Sequence[Trial], metric: Metric, *, limit: float) -> Trial | None:
    """The trial of the front with the best validation metric and a footprint of at most `limit` Mb."""
    small = [trial for trial in best(trials, metric) if trial.figure("footprint") <= limit * (1 + 1e-9)]
    return max(small, key=lambda trial: metric.sign * trial.figure("metric"), default=None)


def numbers(contenders: Sequence[Contender]) -> Iterator[int]:
    """The runs of all contenders."""
    return (run for each in contenders for run in each.runs.values())


def chooses_schedule(override: str) -> bool:
    """Whether an override is of the schedule, so that it does not concern another one."""
    return override.lstrip("+~").startswith(("schedule=", "schedule."))
