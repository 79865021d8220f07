"""The command line: `qp-runner [plan] [-m] [--config-dir DIR] [key=value ...]`."""

import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from qp_runner.config.compose import CONFIG_NAME, Job, config_dir, config_error, jobs
from qp_runner.errors import ConfigError
from qp_runner.sweep import ParentRun
from qp_runner.sweep.grid import plan_sweep
from qp_runner.sweep.job import JobEndedError, job
from qp_runner.sweep.plan import outline
from qp_runner.tracking import Status, prepare
from qp_runner.training import TrainingDivergedError

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
    except JobEndedError as ended:
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
    from qp_runner.cli.plan import show_plan, show_space  # here: training does without what draws on a terminal
    from qp_runner.cli.show_sharing import show_sharing

    args = get_args_parser().parse_args(arguments)
    extra_dir = _extra_dir(args.config_dir)
    planned, multirun = jobs(args.overrides, multirun=args.multirun, extra_dir=extra_dir)
    drawn: dict[str, Job] = {}
    for each in planned:  # a schedule is drawn once, for the first job that has it
        drawn.setdefault(repr((each.choices.get("schedule"), each.config.schedule, each.config.trainer.epochs)), each)
    for each in drawn.values():
        show_plan(each)
    if planned[0].config.search is not None:
        from qp_runner.search.plan import search_space

        _, section, space = search_space(planned, args.overrides, multirun=multirun, extra_dir=extra_dir)
        show_space(section, space)
    elif multirun:
        show_sharing(outline(planned), details=True)


def _run(arguments: list[str]) -> None:
    args = get_args_parser().parse_args(arguments)
    extra: list[str] = []
    asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    if not asks:
        planned, multirun = jobs(args.overrides, multirun=args.multirun, extra_dir=_extra_dir(args.config_dir))
        extra = _prepare(planned, args, multirun=multirun)
    status: Status = "FAILED"
    before = sys.argv
    sys.argv = ["qp-runner", *arguments, *extra]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(job)()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        sys.argv = before
        ParentRun.close(status)


def _extra_dir(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _prepare(planned: list[Job], args: Namespace, *, multirun: bool) -> list[str]:
    """Makes the store ready before any job needs it, and plans a sweep; returns overrides that Hydra has to get too."""
    first = planned[0]
    uri, experiment = first.config.store_uri(), first.config.task.name
    extra: list[str] = []
    if first.config.search is not None:
        from qp_runner.search.plan import plan_search  # here: most runs are no search

        extra_dir = _extra_dir(args.config_dir)
        ParentRun.plan, extra = plan_search(planned, args.overrides, multirun=multirun, extra_dir=extra_dir)
    elif multirun:
        ParentRun.plan, extra = plan_sweep(planned, args.overrides)
    if uri is not None:
        prepare(uri, experiment)
    return extra
