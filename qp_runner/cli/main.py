"""The command line: `qp-runner [plan|sites|evaluate|export] [-m] [--config-dir DIR] [key=value ...]`."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from qp_runner.config.compose import CONFIG_NAME, check_extra_dir, is_multirun, requesting
from qp_runner.config.hydra_errors import config_dir, config_error
from qp_runner.errors import ConfigError, ExportError
from qp_runner.masking import hide, masked
from qp_runner.run.signals import ending_as_interrupt
from qp_runner.sweep.job import job
from qp_runner.training import TrainingDivergedError

BAD_CONFIG, FAILED, INTERRUPTED = 2, 1, 130
MULTIRUN = ("-m", "--multirun")
SITES = """\
Without the section `sites` of a model's YAML all of the network is compressed. With it, globs choose:

  sites:
    weight: auto                              # or globs over Parameters: ["*.attention.*", head.weight]
    activation: ["*.relu*", "*.add", head]    # or auto; calls of modules and functions
    unpruned: auto                            # or globs over both: quantized, not pruned; auto: the ends
    exclude: [stem.*]                         # over both
    bits: {"*head*": 8}                       # in place of an event's
    frozen: false                             # weights that are not trained: left alone, or compressed too

A glob that matches nothing is an error. A call has the path of its module, or that of the calling module and the
function's name; later calls are numbered: layer1.0.relu, layer1.0.relu_1, layer1.0.add. `relu` picks all calls of that
module, `relu_1` the second. On a command line bits want a + and no quotes inside, and brackets of a glob a backslash:

  qp-runner sites '+model.sites.bits={*head*:8,conv\\[12\\]:4}' 'model.sites.exclude=[stem.*]'

Hooks of yours that compute with tensors have to be there before a network is compressed, or they count as its calls.
Where attention is compressed inside, PyTorch's fused kernel for evaluation is not used; its rounding differs.
trainer.executor=compile and graph refuse the few functions that the compiler rewrites (F.hardswish, F.hardsigmoid;
their modules are fine)."""
NOT_USABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)
"""Errors of a folder that are the user's to mend: its rights, its place, its room."""


def main() -> int:
    """Runs the command line; returns the exit code: 0 done, 2 bad configuration, 1 a failed run, 130 interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; we print them
    with ending_as_interrupt(), _current_folder_on_path():
        return _main(hide(flag_first(sys.argv[1:])))


@contextmanager
def _current_folder_on_path() -> Iterator[None]:
    """Within, modules of the user's own are found in the current folder; they hide none that are installed."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def flag_first(arguments: list[str]) -> list[str]:
    """Puts `-m` before everything else: Hydra takes no `key=value` after a flag that follows one."""
    start = ["plan"] if arguments[:1] == ["plan"] else []
    flags = [each for each in arguments if each in MULTIRUN]
    return [*start, *flags[:1], *(each for each in arguments[len(start) :] if each not in MULTIRUN)]


def _main(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["plan"]:
            from qp_runner.cli.plan import show  # not above: to run, nothing has to be drawn on a terminal

            args = _plan_parser().parse_intermixed_args(arguments[1:])
            show(args.overrides, multirun=args.multirun, extra_dir=args.config_dir)
        elif arguments[:1] == ["sites"]:
            from qp_runner.cli.sites import show_sites

            args = _sites_parser().parse_intermixed_args(arguments[1:])
            show_sites(args.overrides, as_csv=args.csv, extra_dir=args.config_dir)
        elif arguments[:1] == ["evaluate"]:
            from qp_runner.cli.evaluate import evaluate_run

            args = _evaluate_parser().parse_intermixed_args(arguments[1:])
            evaluate_run(args.overrides, extra_dir=args.config_dir)
        elif arguments[:1] == ["export"]:
            from qp_runner.cli.export import export_files

            args = _export_parser().parse_intermixed_args(arguments[1:])
            return export_files(args.overrides, extra_dir=args.config_dir)
        else:
            _run(arguments)
    except Exception as error:
        return _report(error, arguments)
    except KeyboardInterrupt:
        return _say("interrupted; what was recorded so far is kept", INTERRUPTED)
    return 0


def _run(arguments: list[str]) -> None:
    """Leaves all but one check to Hydra. Raises what went wrong."""
    for folder in _extra_dirs(arguments):
        check_extra_dir(folder)
    failures: list[Exception] = []
    sys.argv[1:] = arguments

    def run_job(composed: DictConfig) -> float | None:
        """A job. The failure of a run made alone does not go through Hydra, which would add lines of its own."""
        try:
            return job(composed)
        except Exception as error:
            if is_multirun(HydraConfig.get()):
                raise
            failures.append(error)
        return None

    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(run_job)()
    if failures:
        raise failures[0]


def _extra_dirs(arguments: list[str]) -> list[Path]:
    """The folders that `--config-dir` names."""
    pairs = [*pairwise(arguments), *(each.split("=", 1) for each in arguments if "=" in each)]
    return [Path(value) for flag, value in pairs if flag in ("--config-dir", "-cd")]


def _sites_parser() -> argparse.ArgumentParser:
    about = "Lists what of a network is pruned and quantized, and what is left and why. Trains nothing."
    parser = _parser("sites", about, epilog=SITES)
    parser.add_argument("--csv", action="store_true", help="as CSV")
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    return _parser(
        "evaluate", "Measures the finished run in a folder (run=DIR) again, with other values if any are given."
    )


def _export_parser() -> argparse.ArgumentParser:
    return _parser(
        "export",
        "Writes the finished run in a folder (run=DIR) as files for use elsewhere (format=packed,onnx), "
        "loads them again and measures them on the test set. onnx.mode=exact keeps the arithmetic of training; int8 "
        "is for integer kernels, with onnx.branches=true also for sums; onnx.float_bias=false has biases in whole "
        "steps, in kernels of whole layers, which is less exact; onnx.signed_weights=true has int8 weights.",
    )


def _plan_parser() -> argparse.ArgumentParser:
    about = "Draws schedules, their expected footprint, and what the runs of a sweep share. Trains nothing."
    parser = _parser("plan", about)
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: every combination of a,b,c")
    return parser


def _parser(command: str, description: str, *, epilog: str | None = None) -> argparse.ArgumentParser:
    """What all commands but a run have in common; a run is parsed by Hydra. An epilog's lines stay as they are."""
    formatter = argparse.HelpFormatter if epilog is None else argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=f"qp-runner {command}",
        description=description,
        epilog=epilog,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("-cd", "--config-dir", type=Path, metavar="DIR", help="your own YAML files beside ours")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for a run")
    return parser


def _report(error: Exception, arguments: list[str]) -> int:
    """Reports what went wrong: one line for a bad configuration, with the traceback for anything unforeseen."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        error = _hidden_by(error, arguments) or config_error(error, arguments)
    if isinstance(error, ConfigError):
        return _say(str(error), BAD_CONFIG)
    if isinstance(error, OSError) and error.errno in NOT_USABLE and error.filename is not None:
        return _say(f"{error.filename}: {error.strerror}; results=DIR says where to write", BAD_CONFIG)
    if not isinstance(error, TrainingDivergedError | ExportError):
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    return _say(f"{type(error).__name__}: {error}", FAILED)


def _hidden_by(error: Exception, arguments: list[str]) -> ConfigError | None:
    """What is wrong with a command of which Hydra refuses swept values: where it can't compose it, it does not see that
    an experiment asks for a sweep. None if it is just these values.
    """
    if "Ambiguous value" not in str(error):
        return None
    overrides = [each for each in arguments if each.startswith("~") or ("=" in each and not each.startswith("-"))]
    try:
        with requesting(overrides, extra_dir=next(iter(_extra_dirs(arguments)), None)):
            return None
    except ConfigError as found:
        return found


def _say(text: str, code: int) -> int:
    print(f"qp-runner: {masked(text)}", file=sys.stderr)
    return code
