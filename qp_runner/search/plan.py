"""What a search's parent has to know before its first job: its space, checked, its study, and what goes on."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from qp_runner.config import SearchSection
from qp_runner.config.compose import Composer, Job, composing, config_error
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.run.build import build_task
from qp_runner.run.identity import job_digest
from qp_runner.search.loop import Search
from qp_runner.search.space import Space
from qp_runner.search.study import Studies, Study
from qp_runner.sweep import Sweep, SweepPlan
from qp_runner.sweep.grid import set_value, sweep_title
from qp_runner.training.identity import digest
from qp_runner.training.store import LOCK, is_locked

EVENT = re.compile(r"schedule\.events\.([^.]+)\.([^.]+)")
NOT_THE_SAME = {"trials", "batch", "space"}
"""Of the section: what a command may change and still go on. Of the space, what is in force counts."""


def plan_search(
    planned: Sequence[Job], overrides: Sequence[str], *, multirun: bool, extra_dir: Path | None
) -> tuple[SweepPlan, list[str]]:
    """The search's plan and, where it goes on with an earlier attempt, the override that names that one's folder."""
    base, section, space = search_space(planned, overrides, multirun=multirun, extra_dir=extra_dir)
    metric = build_task(base.config).metric
    config = base.config
    uri, named = config.store_uri(), set_value(overrides, "hydra.sweep.dir")
    study = _study(base, section, space, metric)
    before = _before(study, named)
    known = Sweep.load(before) if before is not None else None
    plan = SweepPlan(
        title=sweep_title(base),
        experiment=config.task.name,
        jobs=section.trials + section.reference,
        uri=uri,
        batches=Search(base=base, section=section, space=space, study=study, metric=metric).batches,
        forgiving=True,
        digest=study.name,
        since=time.time() if config.checkpoint.fresh else 0.0,
        parent_run_id=known.parent_run_id if known and known.uri == uri else None,
    )
    if before is not None:
        done = sum(trial.state != "running" for trial in study.trials())
        print(f"goes on with {before}: {done} trials told before", file=sys.stderr)
    return plan, [f"hydra.sweep.dir='{before}'"] if before is not None and named is None else []


def search_space(
    planned: Sequence[Job], overrides: Sequence[str], *, multirun: bool, extra_dir: Path | None
) -> tuple[Job, SearchSection, Space]:
    """The run that a search varies, its section, and the ranges in force. Raises ConfigError for what can't be run."""
    base, section = _base(planned, overrides, multirun=multirun)
    space = _space(base, section)
    with composing(extra_dir):
        check_space(base, space)
    return base, section, space


def search_digest(base: Job, section: SearchSection, space: Space) -> str:
    """What makes two commands the same search: sampler, objectives, ranges, and what its runs have in common."""
    ranges = [[key, each.model_dump()] for key, each in space.ranges.items()]
    return digest([section.model_dump(exclude=NOT_THE_SAME), ranges, job_digest(base.config)])


def check_space(base: Job, space: Space) -> None:
    """Composes a run for both ends of each range; raises ConfigError, naming the range, for one that can't be.

    Times are checked for their key alone: whether they fit is a matter of the others'.
    """
    composer = Composer()
    for key, texts in space.ends().items():
        for value in dict.fromkeys(texts):
            _check(composer, base, space, override=f"{key}={value}")


def _check(composer: Composer, base: Job, space: Space, *, override: str) -> None:
    key, _, value = override.partition("=")
    event = EVENT.fullmatch(key)
    try:
        composer.job([*base.overrides, override])
    except (HydraException, OmegaConfBaseException) as error:
        if event is None or "schedule" not in space.ranges:  # then other choices may have the event
            raise ConfigError(f"search.space.{key}", value, config_error(error, [override]).allowed) from error
    except ConfigError as error:
        if event is None or not _fits_alone(composer, base, event, override):
            raise ConfigError(f"search.space.{key}", value, error.allowed) from error


def _fits_alone(composer: Composer, base: Job, event: re.Match[str], override: str) -> bool:
    """Whether a value of an event that does not fit beside the base's others is one that could."""
    if event[2] in ("start", "end"):
        return True
    others = [f"~schedule.events.{name}" for name in base.config.schedule.events if name != event[1]]
    try:
        composer.job([*base.overrides, override, *others])
    except ConfigError:
        return False
    return True


def _base(planned: Sequence[Job], overrides: Sequence[str], *, multirun: bool) -> tuple[Job, SearchSection]:
    base, section = planned[0], planned[0].config.search
    assert section is not None
    if not multirun:
        raise ConfigError("hydra.mode", "RUN", "MULTIRUN: a search makes many runs")
    if len(planned) > 1:
        raise ConfigError(
            "search", section.sampler, f"one value a key, not {len(planned)} jobs: ranges go to search.space"
        )
    if base.choices.get("hydra/sweeper") != "trunks":
        raise ConfigError("hydra/sweeper", base.choices.get("hydra/sweeper"), "a search needs trunks")
    if set_value(overrides, "hydra.sweep.subdir") is not None:
        raise ConfigError("hydra.sweep.subdir", set_value(overrides, "hydra.sweep.subdir"), "a search numbers its runs")
    return base, section


def _space(base: Job, section: SearchSection) -> Space:
    """The ranges but those whose key the command line sets: it wins over an experiment's."""
    given = {each.lstrip("+~").partition("=")[0] for each in base.overrides}
    ranges = {key: each for key, each in section.ranges.items() if key not in given}
    if not ranges:
        raise ConfigError("search.space", "(empty)", "a key that the command line does not set")
    return Space(ranges)


def _study(base: Job, section: SearchSection, space: Space, metric: Metric) -> Study:
    """The search's latest study; another one if that is still at work or nothing stored is to be used."""
    config = base.config
    studies = Studies(Path(config.results) / "search.db", search_digest(base, section, space))
    directions = {"metric": "maximize" if metric.higher_is_better else "minimize", "footprint": "minimize"}
    study = studies.open(section, space, directions=directions, fresh=config.checkpoint.fresh)
    folder = study.notes.get("folder")
    if folder is not None and is_locked(Path(folder) / LOCK):
        return studies.open(section, space, directions=directions, fresh=True)
    return study


def _before(study: Study, named: str | None) -> Path | None:
    """The folder of the attempt that this search goes on with. Raises ConfigError for a folder of another sweep's."""
    folder = study.notes.get("folder")
    wanted = Path(named) if named is not None else Path(folder) if folder is not None else None
    known = Sweep.load(wanted) if wanted is not None else None
    if named is not None and known is not None and known.digest != study.name:
        raise ConfigError("hydra.sweep.dir", named, "a folder without another sweep's runs")
    return wanted if known is not None else None
