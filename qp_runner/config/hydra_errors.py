"""What Hydra says of a bad command line, as one line that names the key, the value and what is allowed."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from qp_runner.errors import ConfigError


def config_dir() -> Path:
    """The folder of our YAML files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@contextmanager
def one_line_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Within, errors of Hydra and OmegaConf become ConfigErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise config_error(error, overrides) from error


def config_error(error: Exception, overrides: Sequence[str] = ()) -> ConfigError:
    """An error of Hydra's as a ConfigError; for an unknown choice it says what there is to choose from."""
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
    """The nearest choices of a group, then all; of folders, how many choices each holds."""
    folder = config_dir() / group
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    folders = Counter(name.rpartition("/")[0] for name in names if "/" in name)
    listed = [name for name in names if "/" not in name] + [f"{name}/* ({count})" for name, count in folders.items()]
    near = difflib.get_close_matches(wrong, names, n=3)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"available: {', '.join(listed)}"
