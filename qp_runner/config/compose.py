"""From a command line to composed configurations, one per job, checked before the first one starts."""

import copy
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from qp_runner.config import Config, validate
from qp_runner.errors import ConfigError
from qp_runner.sweep.composition import Compositions, apply

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
        expanded, multirun = _expand(overrides, multirun=multirun)
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
    """Hydra, ready to compose our configuration and what a folder of the user's adds to it, as Hydra's own command line
    does. Raises ConfigError for a folder that is not there or that has files of the names of ours: they would be
    passed over.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            if extra_dir is not None:
                _check_extra_dir(extra_dir)
                path = GlobalHydra.instance().config_loader().get_search_path()
                path.prepend("command-line", f"file://{extra_dir.resolve()}", SearchPathQuery(provider="schema"))
                GlobalHydra.instance().hydra.config_loader = ConfigLoaderImpl(path)
            yield
    finally:
        GlobalHydra.instance().clear()


def _check_extra_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError("--config-dir", folder, "a folder that is there")
    mine, ours = ({path.relative_to(each) for path in each.rglob("*.yaml")} for each in (folder, config_dir()))
    if both := sorted(path.as_posix() for path in mine & ours):
        names = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise ConfigError("--config-dir", folder, f"files of other names than qp_runner's own: rename {names}")


def _compositions() -> Compositions:
    return Compositions(GlobalHydra.instance().config_loader(), CONFIG_NAME)


def _expand(overrides: Sequence[str], *, multirun: bool) -> tuple[list[list[str]], bool]:
    """The jobs of a command line, and whether they are a sweep: then the product of its own and its experiment's swept
    values.
    """
    compositions = _compositions()
    parsed = [compositions.parse(each) for each in overrides]
    hydra = compositions.base(tuple(str(each.input_line) for each in parsed if not each.is_sweep_override())).hydra
    if not multirun and (hydra.mode is None or hydra.mode.name != "MULTIRUN"):
        return [list(overrides)], False
    params = [compositions.parse(f"{key}={value}") for key, value in (hydra.sweeper.params or {}).items()]
    [batch] = BasicSweeper.split_arguments([*params, *parsed], None)
    return batch, True


class Composer:
    """Composes and checks jobs, a thousand in a second: see `Compositions`."""

    def __init__(self) -> None:
        self._compositions = _compositions()
        self._copies: dict[tuple[tuple[str, ...], tuple[str, ...]], DictConfig] = {}

    def job(self, overrides: Sequence[str]) -> Job:
        """A job, composed and checked. Raises what Hydra raises, and ConfigError."""
        choosing, values = self._compositions.split(overrides)
        base = self._compositions.base(choosing)
        choices = {str(key): str(value) for key, value in base.hydra.runtime.choices.items()}
        config = self._copy(base, choosing, values)
        apply(values, config)
        return Job(tuple(overrides), choices, validate(config))

    def _copy(self, base: DictConfig, choosing: tuple[str, ...], values: Sequence[Override]) -> DictConfig:
        """A copy of a composition, ours alone, to set these values on."""
        key = (choosing, tuple(each.key_or_group for each in values))
        if key in self._copies:
            return self._copies[key]
        config = without_hydra(base)
        if all(_is_plain(each) for each in values):
            # the next job that sets the same keys sets them all anew: it can do so on the same copy
            self._copies[key] = config
        return config


def without_hydra(whole: DictConfig) -> DictConfig:
    """A copy of a composition without Hydra's own part."""
    config = copy.deepcopy(whole)
    with open_dict(config):
        del config["hydra"]
    return config


def _is_plain(override: Override) -> bool:
    """Whether it replaces one value by another, so that the last of several stands alone."""
    changes = not (override.is_add() or override.is_force_add() or override.is_delete())
    return changes and not isinstance(override.value(), dict | list)
