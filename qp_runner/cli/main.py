"""The command line: `qp-runner [plan] [-m] [--config-dir DIR] [key=value ...]`."""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
import torch
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qp_runner.cli.compose import CONFIG_NAME, Job, config_dir, config_error, jobs
from qp_runner.cli.run import Place, run
from qp_runner.cli.sweeping import earlier_attempt, finished, outline, sweep_digest
from qp_runner.errors import ConfigError
from qp_runner.schema import Config, validate
from qp_runner.sweep import ParentRun, Sweep, SweepPlan
from qp_runner.tracking import Status, prepare
from qp_runner.training import TrainingDivergedError


class _JobEnded(BaseException):
    """Carries a single run's failure past Hydra, which would add lines of its own; a sweep's job raises plainly."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(error)


BAD_CONFIG, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 bad configuration, 1 a failed run, 130 Ctrl-C."""
    sys.exit(execute(list(sys.argv[1:] if arguments is None else arguments)))


def execute(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; we print them
    try:
        if arguments[:1] == ["plan"]:
            _plan(arguments[1:])
        else:
            _run(arguments)
    except _JobEnded as ended:
        return _report(ended.error)
    except Exception as error:
        return _report(error)
    except KeyboardInterrupt:
        return _say("interrupted; what was recorded so far is kept", INTERRUPTED)
    return 0


def _report(error: Exception) -> int:
    """Says what went wrong: one line for a bad configuration, the whole story for anything else."""
    if isinstance(error, ConfigError):
        return _say(str(error), BAD_CONFIG)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _say(str(config_error(error)), BAD_CONFIG)
    if not isinstance(error, TrainingDivergedError):
        traceback.print_exception(error)
    return _say(f"{type(error).__name__}: {error}", FAILED)


def _say(text: str, code: int) -> int:
    print(f"qp-runner: {text}", file=sys.stderr)
    return code


def _plan(arguments: list[str]) -> None:
    from qp_runner.cli.plan import show_plan  # here: training does without what draws on a terminal
    from qp_runner.cli.sharing import show_sharing

    args = get_args_parser().parse_args(arguments)
    planned, multirun = jobs(args.overrides, multirun=args.multirun, extra_dir=_extra_dir(args.config_dir))
    drawn: dict[str, Job] = {}
    for job in planned:  # a schedule is drawn once, for the first job that has it
        drawn.setdefault(repr((job.choices.get("schedule"), job.config.schedule, job.config.trainer.epochs)), job)
    for job in drawn.values():
        show_plan(job)
    if multirun:
        show_sharing(outline(planned), details=True)


def _run(arguments: list[str]) -> None:
    args = get_args_parser().parse_args(arguments)
    extra: list[str] = []
    asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    if not asks:
        planned, multirun = jobs(args.overrides, multirun=args.multirun, extra_dir=_extra_dir(args.config_dir))
        extra = _prepare(planned, args.overrides, multirun=multirun)
    status: Status = "FAILED"
    before = sys.argv
    sys.argv = ["qp-runner", *arguments, *extra]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(_job)()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        sys.argv = before
        ParentRun.close(status)


def _extra_dir(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _prepare(planned: list[Job], overrides: Sequence[str], *, multirun: bool) -> list[str]:
    """Makes the store ready before any job needs it, and plans a sweep; returns overrides that Hydra has to get too."""
    first = planned[0]
    uri, experiment = first.config.store_uri(), first.config.task.name
    extra: list[str] = []
    if multirun:
        ParentRun.plan, extra = _plan_sweep(planned, overrides)
    if uri is not None:
        prepare(uri, experiment)
    return extra


def _plan_sweep(planned: list[Job], overrides: Sequence[str]) -> tuple[SweepPlan, list[str]]:
    """The sweep's plan and, where it goes on with an earlier attempt, the override that names that one's folder."""
    first = planned[0]
    title = first.choices.get("experiment") or "sweep"
    title = "sweep" if title == "None" else title
    uri, experiment, section = first.config.store_uri(), first.config.task.name, first.config.checkpoint
    if not section.enabled or first.choices.get("hydra/sweeper") != "trunks":
        return SweepPlan(title, experiment, len(planned), uri), []
    wanted, extra, done, parent = sweep_digest(planned), list[str](), frozenset[int](), None
    named = next(
        (each.partition("=")[2].strip("\"'") for each in overrides if each.startswith("hydra.sweep.dir=")), None
    )
    before = None
    if not section.fresh and not any(each.startswith("hydra.sweep.subdir=") for each in overrides):
        folder = None if named is None else Path(named)
        before = earlier_attempt(wanted, results=Path(first.config.results), folder=folder)
    if before is not None:
        known = Sweep.load(before)
        done, parent = finished(before, jobs=len(planned)), known.parent_run_id if known and known.uri == uri else None
        extra = [] if named is not None else [f"hydra.sweep.dir='{before}'"]
        print(f"goes on with {before}: {len(done)} of {len(planned)} jobs finished before", file=sys.stderr)
        for number in sorted(done):
            label = schedule_label(planned[number].choices["schedule"], planned[number].overrides)
            seed = planned[number].config.seed
            print(f"[{number + 1}/{len(planned)}] {label} · seed {seed}: finished before, skipped", file=sys.stderr)
    from qp_runner.cli.sharing import show_sharing

    made = outline(planned, done=done)
    show_sharing(made, to_stderr=True)
    plan = SweepPlan(
        title=title,
        experiment=experiment,
        jobs=len(planned),
        uri=uri,
        overrides=[job.overrides for job in planned],
        waves=made.waves,
        also={str(number): steps for number, steps in made.also.items()},
        digest=wanted,
        since=time.time() if section.fresh else 0.0,
        parent_run_id=parent,
    )
    return plan, extra


def _job(composed: DictConfig) -> float:
    """What Hydra calls for each job, in whatever process its launcher chose."""
    settings = HydraConfig.get()
    multirun = settings.mode is not None and settings.mode.name == "MULTIRUN"
    overrides, folder = list(settings.overrides.task), Path(settings.runtime.output_dir)
    sweep_folder = Path(settings.sweep.dir).resolve()
    launched = int(settings.job.num) if multirun else 0
    place = Place(
        folder=folder,
        choices=dict(settings.runtime.choices),
        label=schedule_label(settings.runtime.choices["schedule"], overrides),
        variant=variant(overrides),
        sweep=Sweep.load(sweep_folder) if multirun else None,
        sweep_folder=sweep_folder if multirun else None,
        number=int(folder.name) if multirun and folder.name.isdigit() else launched,
    )
    try:
        config = validate(composed)
        if multirun and settings.runtime.choices.get("hydra/launcher") != "basic":
            config = with_own_gpu(config, launched)
        return run(config, place, config_yaml=OmegaConf.to_yaml(composed, resolve=True))
    except Exception as error:
        if multirun:
            raise
        raise _JobEnded(error) from error


def with_own_gpu(config: Config, launched: int) -> Config:
    """Deals the GPUs that a job sees out to jobs that run side by side, by the order in which they are launched."""
    count = torch.cuda.device_count()
    if config.trainer.device != "auto" or count < 2:
        return config
    return config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"device": f"cuda:{launched % count}"})}
    )


def schedule_label(choice: str, overrides: Sequence[str]) -> str:
    """The schedule's choice, with what the command line changed in its events."""
    prefix = "schedule.events."
    changed = [each.lstrip("+~").removeprefix(prefix) for each in overrides if each.lstrip("+~").startswith(prefix)]
    return f"{choice}[{','.join(changed)}]" if changed else choice


def variant(overrides: Sequence[str]) -> str:
    """What else the command line changed: runs are alike only where this is equal."""
    named = (
        "seed=",
        "schedule=",
        "schedule.",
        "task=",
        "model=",
        "data=",
        "experiment=",
        "tracking",
        "results=",
        "checkpoint.",
    )
    return ",".join(sorted(each for each in overrides if not each.lstrip("+~").startswith(named)))
