"""From a command line to checked configurations, one for each job."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from qp_runner.config.hydra_errors import config_dir, one_line_errors
from qp_runner.config.job_loader import JobLoader
from qp_runner.config.schema import Config
from qp_runner.config.validation import validate
from qp_runner.errors import ConfigError

CONFIG_NAME = "config"
NUMBERED = "${hydra:job.num}"  # what `hydra.sweep.subdir` is unless somebody changes it


@dataclass(frozen=True)
class Job:
    """One run: its command-line overrides, the choice made in each group, and the checked configuration."""

    overrides: tuple[str, ...]
    choices: dict[str, str]
    config: Config


@dataclass(frozen=True)
class Request:
    """What a command asks for.

    Attributes:
        loader: reads the configuration files.
        command: the command's own composition, swept values left out, Hydra's part included.
    """

    loader: JobLoader
    command: DictConfig

    @property
    def overrides(self) -> list[str]:
        """The command line, without what is Hydra's."""
        return [str(each) for each in self.command.hydra.overrides.task]

    @cached_property
    def combinations(self) -> list[list[str]]:
        """The overrides of each job of a sweep: the command line comes after what an experiment sweeps over."""
        params = self.command.hydra.sweeper.get("params") or {}
        return expand([*(f"{key}={value}" for key, value in params.items()), *self.overrides], self.loader)

    @cached_property
    def first(self) -> Job:
        """The first job of a sweep."""
        return self.compose(self.combinations[0])

    @property
    def folder(self) -> Path | None:
        """`hydra.sweep.dir`, where the command names it."""
        named = any(str(each).startswith("hydra.sweep.dir=") for each in self.command.hydra.overrides.hydra)
        return Path(str(self.command.hydra.sweep.dir)) if named else None

    @property
    def numbered(self) -> bool:
        """Whether the folder of a job is its number, which is so unless the command names another."""
        sweep: Any = OmegaConf.to_container(self.command.hydra.sweep)
        return bool(sweep["subdir"] == NUMBERED)

    def jobs(self) -> list[Job]:
        """All jobs of a sweep."""
        return [self.first, *(self.compose(each) for each in self.combinations[1:])]

    def compose(self, overrides: Sequence[str]) -> Job:
        """A job from its overrides. Raises ConfigError for whatever is wrong with them."""
        with one_line_errors(overrides):
            composed = self.loader.load_sweep_config(self.command, list(overrides))
        choices = {str(key): str(value) for key, value in composed.hydra.runtime.choices.items()}
        ours = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        return Job(tuple(overrides), choices, validate(ours))


def expand(overrides: Sequence[str], loader: ConfigLoader) -> list[list[str]]:
    """Every combination of swept values, in Hydra's order; of a key that is given twice the last one counts.

    Raises ConfigError for bad syntax, for a sweep over an interval, and where there is no combination.
    """
    values: dict[str, list[str]] = {}
    with one_line_errors(overrides):
        for each in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
            key = each.get_key_element()
            if not each.is_sweep_override():
                value = each.get_value_element_as_str()
                values[key] = [key if each.is_delete() and each.value() is None else f"{key}={value}"]
            elif each.is_discrete_sweep():
                values[key] = [f"{key}={value}" for value in each.sweep_string_iterator()]
            else:
                value = str(each.input_line).partition("=")[2]
                raise ConfigError(key, value, "values to try, such as 1,2,3 or range(3)")
    combinations = [list(each) for each in itertools.product(*values.values())]
    if not combinations:
        raise ConfigError("command line", " ".join(overrides), "asks for no job: a glob matches no choice")
    return combinations


def jobs(overrides: Sequence[str], *, multirun: bool) -> tuple[list[Job], bool]:
    """The jobs that a command line asks for, and whether it is a sweep: by `-m`, or by an experiment that says so.

    For whoever wants to know without running anything. Raises ConfigError.
    """
    with requesting(overrides) as request:
        if multirun or is_multirun(request.command.hydra):
            return request.jobs(), True
        return [request.compose(request.overrides)], False


@contextmanager
def requesting(overrides: Sequence[str], *, extra_dir: Path | None = None) -> Iterator[Request]:
    """What a command line asks for; it can be composed as long as this is open. Raises ConfigError."""
    with composing(extra_dir) as loader:
        with one_line_errors(overrides):
            command = loader.load_configuration(
                CONFIG_NAME, list(overrides), run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False
            )
        yield Request(JobLoader(loader), command)


def is_multirun(hydra: Any) -> bool:
    """Whether a command is a sweep, by the part `hydra` of what it composes to."""
    return hydra.mode is not None and hydra.mode.name == "MULTIRUN"


@contextmanager
def composing(extra_dir: Path | None) -> Iterator[ConfigLoader]:
    """A loader of our configuration and of what a folder of the user's adds to it. Raises ConfigError: see
    `check_extra_dir`.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            if extra_dir is not None:
                check_extra_dir(extra_dir)
                path = copy.deepcopy(loader.get_search_path())
                path.prepend("command-line", f"file://{extra_dir.resolve()}", SearchPathQuery(provider="schema"))
                loader = type(loader)(path)
            yield loader
    finally:
        GlobalHydra.instance().clear()


def check_extra_dir(folder: Path) -> None:
    """Raises ConfigError for a `--config-dir` that is not there, or that has files of the same names as ours: Hydra
    would read one of them and say nothing.
    """
    if not folder.is_dir():
        raise ConfigError("--config-dir", folder, "a folder that is there")
    mine, ours = ({path.relative_to(each) for path in each.rglob("*.yaml")} for each in (folder, config_dir()))
    if both := sorted(path.as_posix() for path in mine & ours):
        names = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise ConfigError("--config-dir", folder, f"files of other names than qp_runner's own: rename {names}")
