"""From a command line to composed configurations, one per job, checked before the first one starts."""

import copy
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from qp_runner.errors import ConfigError
from qp_runner.schema import Config, validate

CONFIG_NAME = "config"


@dataclass(frozen=True)
class Job:
    """One run: its command-line overrides, the choice made in each group, and the checked configuration."""

    overrides: tuple[str, ...]
    choices: dict[str, str]
    config: Config


def config_dir() -> Path:
    """The folder of our YAML files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def jobs(overrides: Sequence[str], *, multirun: bool, extra_dir: Path | None = None) -> tuple[list[Job], bool]:
    """Composes and checks every job that a command line asks for, in Hydra's order; says whether it is a sweep.

    A sweep is asked for by `-m` or by an experiment whose `hydra.mode` is MULTIRUN.
    Raises ConfigError for an unknown group, choice or key, for bad syntax and for a value the schema refuses.
    """
    with composing(extra_dir), one_line_errors(overrides):
        multirun = multirun or _asks_multirun(overrides)
        expanded = _expand(overrides) if multirun else [list(overrides)]
        if not expanded:
            raise ConfigError("command line", " ".join(overrides), "asks for no job: a glob matches no choice")
        composer = Composer()
        return [composer.job(each) for each in expanded], multirun


@contextmanager
def one_line_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Turns what Hydra and OmegaConf say of a bad command line into a ConfigError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise config_error(error, overrides) from error


def config_error(error: Exception, overrides: Sequence[str] = ()) -> ConfigError:
    """One line from an error of Hydra's: the key, the value and, for a choice, what there is to choose from."""
    text = str(error)
    if found := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        group, choice = _split_choice(found.group(1), found.group(2))
        return ConfigError(group, choice, f"no such choice; {_choices(group, choice)}")
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        given = next((each.partition("=")[2] for each in overrides if each.startswith(f"{key}=")), "?")
        return ConfigError(key, given, f"no such key; qp-runner --cfg job lists them, +{key}=... adds one")
    return ConfigError("command line", " ".join(overrides) or "?", " ".join(text.split()))


def _split_choice(group: str, choice: str) -> tuple[str, str]:
    """`schedule/controlled`, `p_q` is the choice controlled/p_q of the group schedule."""
    head, _, rest = group.partition("/")
    return head, f"{rest}/{choice}" if rest else choice


def _choices(group: str, wrong: str) -> str:
    """The choices of a group in words: the nearest ones, then all; of folders, how many each holds."""
    folder = config_dir() / group
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    folders = Counter(name.rpartition("/")[0] for name in names if "/" in name)
    listed = [name for name in names if "/" not in name] + [f"{name}/* ({count})" for name, count in folders.items()]
    near = difflib.get_close_matches(wrong, names, n=3)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"available: {', '.join(listed)}"


@contextmanager
def composing(extra_dir: Path | None) -> Iterator[None]:
    """Hydra, ready to compose our configuration, with a folder of the user's before ours if given."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            if extra_dir is not None:
                loader = GlobalHydra.instance().config_loader()
                loader.get_search_path().prepend(provider="command-line", path=f"file://{extra_dir.resolve()}")
                loader.repository = type(loader.repository)(config_search_path=loader.get_search_path())
            yield
    finally:
        GlobalHydra.instance().clear()


def _base(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a command line without its swept values, Hydra's own part included."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    plain = [str(o.input_line) for o in parser.parse_overrides(list(overrides)) if not o.is_sweep_override()]
    return compose(CONFIG_NAME, overrides=plain, return_hydra_config=True)


def _asks_multirun(overrides: Sequence[str]) -> bool:
    mode = _base(overrides).hydra.mode
    return mode is not None and mode.name == "MULTIRUN"


def _expand(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a sweep: the product of the command line's and the experiment's swept values."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    params = [f"{key}={value}" for key, value in (_base(overrides).hydra.sweeper.params or {}).items()]
    [batch] = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
    return batch


class Composer:
    """Composes jobs that differ little: each set of group choices once, single values set on a copy.

    The result is Hydra's own: it, too, first merges what the groups say and then sets single values. A full
    composition takes 0.2 s, which a sweep of a thousand jobs can't afford.
    """

    def __init__(self) -> None:
        loader = GlobalHydra.instance().config_loader()
        self._repository = loader.repository
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}
        self._copies: dict[tuple[tuple[str, ...], tuple[str, ...]], DictConfig] = {}
        self._values: dict[str, bool] = {}

    def job(self, overrides: Sequence[str]) -> Job:
        """A job, composed and checked. Raises what Hydra raises, and ConfigError."""
        values = [self._parse(each) for each in overrides if self._is_value(each)]
        choosing = tuple(each for each in overrides if not self._is_value(each))
        base, choices = self._base(choosing)
        if all(_is_plain(each) for each in values):
            # the next job that sets the same keys sets them all anew: it can do so on the same copy
            key = (choosing, tuple(each.key_or_group for each in values))
            if key not in self._copies:
                self._copies[key] = copy.deepcopy(base)
            config = self._copies[key]
        else:
            config = copy.deepcopy(base)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return Job(tuple(overrides), dict(choices), validate(config))

    def _base(self, choosing: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
        if choosing not in self._composed:
            raw = compose(CONFIG_NAME, overrides=list(choosing), return_hydra_config=True)
            choices = {str(key): str(value) for key, value in raw.hydra.runtime.choices.items()}
            with open_dict(raw):
                del raw["hydra"]
            self._composed[choosing] = raw, choices
        return self._composed[choosing]

    def _is_value(self, override: str) -> bool:
        """Whether an override sets a value of the run's own configuration; others change what is composed."""
        if override not in self._values:
            parsed = self._parse(override)
            key = parsed.key_or_group
            ours = key != "hydra" and not key.startswith(("hydra.", "hydra/"))
            self._values[override] = ours and (
                isinstance(parsed.value(), dict) or not self._repository.group_exists(key)
            )
        return self._values[override]

    def _parse(self, override: str) -> Override:
        if override not in self._parsed:
            self._parsed[override] = self._parser.parse_override(override)
        return self._parsed[override]


def _is_plain(override: Override) -> bool:
    """Whether it replaces one value by another, so that the last of several stands alone."""
    changes = not (override.is_add() or override.is_force_add() or override.is_delete())
    return changes and not isinstance(override.value(), dict | list)
