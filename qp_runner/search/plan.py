"""What a search has to know before its first run: its ranges, checked, and the earlier attempt it goes on with."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qp_runner.config import SearchSection
from qp_runner.config.compose import Job, Request
from qp_runner.errors import ConfigError
from qp_runner.run.identity import job_digest
from qp_runner.run.labels import sweep_title
from qp_runner.run.task import build_task
from qp_runner.search.confirm import chooses_schedule
from qp_runner.search.loop import Search
from qp_runner.search.space import Space
from qp_runner.search.study import require_optuna
from qp_runner.sweep.batch import Batch, SweepPlan
from qp_runner.sweep.claim import Claim
from qp_runner.sweep.parent import ParentRun, Sweep
from qp_runner.training import Content, content_of
from qp_runner.training.identity import digest

EVENT = re.compile(r"schedule\.events\.([^.]+)\.([^.]+)")
RESUME_IGNORES = {"trials", "batch", "space", "confirm", "against"}
"""Of the section: what may differ in a command that goes on with a search. The ranges in force may not."""


def plan_search(request: Request, claim: Claim) -> SweepPlan:
    """Plans a search. Raises ConfigError for one that can't be run."""
    base, (section, space) = request.first, search_space(request)
    if not request.numbered:
        raise ConfigError("hydra.sweep.subdir", "(changed)", "a search numbers its runs")
    if (patience := base.config.trainer.early_stop.patience) is not None:
        raise ConfigError("trainer.early_stop.patience", patience, "null: a search compares schedules")
    require_optuna()
    task = build_task(base.config)
    metric, own = task.metric, search_digest(base, section, space, content_of(task))

    def batches(parent: ParentRun, workers: int) -> Iterator[Batch]:
        search = Search(parent, base=base, section=section, space=space, metric=metric, compose=request.compose)
        return search.batches(workers)

    return SweepPlan(
        title=sweep_title(base.choices),
        jobs=section.trials + section.reference + section.confirm * (1 + len(section.against)),
        batches=batches,
        digest=own,
        before=_earlier_attempt(request, own, claim),
        forgiving=True,
    )


def search_space(request: Request) -> tuple[SearchSection, Space]:
    """The section of a search, and its ranges in force: those whose key the command line does not set.

    Raises ConfigError for ranges that can't be searched.
    """
    base, section = request.first, request.first.config.search
    assert section is not None
    if (jobs := len(request.combinations)) > 1:
        raise ConfigError("search", section.sampler, f"one value a key, not {jobs} jobs: ranges go to search.space")
    given = {each.lstrip("+~").partition("=")[0] for each in base.overrides}
    space = Space({key: each for key, each in section.ranges.items() if key not in given})
    if not space.ranges:
        raise ConfigError("search.space", "(empty)", "a key that the command line does not set")
    check_space(base, space, request.compose)
    for name, overrides in section.against.items() if section.confirm else ():
        try:
            request.compose([*(each for each in base.overrides if not chooses_schedule(each)), *overrides])
        except ConfigError as error:
            raise ConfigError(f"search.against.{name}", " ".join(overrides), f"overrides of a run ({error})") from error
    return section, space


def search_digest(base: Job, section: SearchSection, space: Space, content: Content) -> str:
    """What makes two commands the same search: sampler, objectives, ranges, and what its runs have in common.

    Empty for a search that can't go on, as nobody knows whether it would start from the same data.
    """
    if content.problem:
        return ""
    ranges = [[key, each.model_dump()] for key, each in space.ranges.items()]
    return digest([section.model_dump(exclude=RESUME_IGNORES), ranges, job_digest(base.config), content.digest])


def check_space(base: Job, space: Space, compose: Callable[[Sequence[str]], Job]) -> None:
    """Composes a run for both ends of each range; raises ConfigError, with the range's key, for one that can't be.

    A value of an event need only fit on its own: the values of the other events are yet to be chosen.
    """
    for key, texts in space.ends().items():
        for value in dict.fromkeys(texts):
            try:
                compose([*base.overrides, f"{key}={value}"])
            except ConfigError as error:
                if not _could_fit(base, space, key, value, compose):
                    raise ConfigError(f"search.space.{key}", value, error.allowed) from error


def _could_fit(base: Job, space: Space, key: str, value: str, compose: Callable[[Sequence[str]], Job]) -> bool:
    """Whether a value that does not fit the base is one of an event that may fit other choices."""
    found = EVENT.fullmatch(key)
    if found is None:
        return False
    events, (name, field) = base.config.schedule.events, found.groups()
    if field not in events.get(name, {}):
        return "schedule" in space.ranges  # another schedule may have the event
    if field in ("start", "end"):
        return True
    others = [f"~schedule.events.{other}" for other in events if other != name]
    try:
        compose([*base.overrides, f"{key}={value}", *others])
    except ConfigError:
        return False
    return True


def _earlier_attempt(request: Request, own: str, claim: Claim) -> Path | None:
    """The folder of the attempt to go on with. Raises ConfigError where the command names a folder of another sweep."""
    config, named, before = request.first.config, request.folder, None
    if not config.checkpoint.fresh:
        before = claim.earlier(own, results=Path(config.results), named=named)
    if before is None and named is not None and Sweep.load(named) is not None:
        raise ConfigError("hydra.sweep.dir", named, "a folder without another sweep's runs")
    return before
