"""The command line: `qp-runner [plan] [-m] [--config-dir DIR] [key=value ...]`."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qp_runner.cli.compose import CONFIG_NAME, Job, config_dir, config_error, jobs
from qp_runner.cli.run import Place, run
from qp_runner.errors import ConfigError
from qp_runner.schema import validate
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

    args = get_args_parser().parse_args(arguments)
    planned, _ = jobs(args.overrides, multirun=args.multirun, extra_dir=_extra_dir(args.config_dir))
    for job in planned:
        show_plan(job)


def _run(arguments: list[str]) -> None:
    args = get_args_parser().parse_args(arguments)
    asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    if not asks:
        planned, multirun = jobs(args.overrides, multirun=args.multirun, extra_dir=_extra_dir(args.config_dir))
        _prepare(planned, multirun=multirun)
    status: Status = "FAILED"
    before = sys.argv
    sys.argv = ["qp-runner", *arguments]
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


def _prepare(planned: list[Job], *, multirun: bool) -> None:
    """Makes the store ready before any job needs it, and tells the sweep's parent run what it is."""
    first = planned[0]
    uri, experiment = first.config.store_uri(), first.config.task.name
    if multirun:
        title = first.choices.get("experiment") or "sweep"
        ParentRun.plan = SweepPlan("sweep" if title == "None" else title, experiment, len(planned), uri)
    if uri is not None:
        prepare(uri, experiment)


def _job(composed: DictConfig) -> float:
    """What Hydra calls for each job, in whatever process its launcher chose."""
    settings = HydraConfig.get()
    multirun = settings.mode is not None and settings.mode.name == "MULTIRUN"
    overrides = list(settings.overrides.task)
    place = Place(
        folder=Path(settings.runtime.output_dir),
        choices=dict(settings.runtime.choices),
        label=schedule_label(settings.runtime.choices["schedule"], overrides),
        variant=variant(overrides),
        sweep=Sweep.load(Path(settings.sweep.dir)) if multirun else None,
        number=int(settings.job.num) if multirun else 0,
    )
    try:
        return run(validate(composed), place, config_yaml=OmegaConf.to_yaml(composed, resolve=True))
    except Exception as error:
        if multirun:
            raise
        raise _JobEnded(error) from error


def schedule_label(choice: str, overrides: Sequence[str]) -> str:
    """The schedule's choice, with what the command line changed in its events."""
    prefix = "schedule.events."
    changed = [each.lstrip("+~").removeprefix(prefix) for each in overrides if each.lstrip("+~").startswith(prefix)]
    return f"{choice}[{','.join(changed)}]" if changed else choice


def variant(overrides: Sequence[str]) -> str:
    """What else the command line changed: runs are alike only where this is equal."""
    named = ("seed=", "schedule=", "schedule.", "task=", "model=", "data=", "experiment=", "tracking", "results=")
    return ",".join(sorted(each for each in overrides if not each.lstrip("+~").startswith(named)))
