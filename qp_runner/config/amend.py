"""The configuration of a finished run, changed by overrides as a command line has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from qp_runner.config.compose import CONFIG_NAME, composing
from qp_runner.config.hydra_errors import one_line_errors
from qp_runner.config.schema import Config
from qp_runner.config.validation import validate
from qp_runner.errors import ConfigError


def amended(composed: Mapping[str, Any], overrides: Sequence[str], *, extra_dir: Path | None = None) -> Config:
    """A run's configuration with overrides.

    Args:
        composed: as the run was composed, interpolations unresolved, so that `data.root=DIR` reaches all that uses it.
        overrides: values (`data.root=DIR`), and groups that a run's sections come from (`data=cifar10`).
        extra_dir: of YAML files of the user's own.

    Raises:
        ConfigError: a bad value, an unknown key, several values for one key.
    """
    config = OmegaConf.create(dict(composed))
    with composing(extra_dir) as loader, one_line_errors(overrides):
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        for each in parsed:
            if each.is_sweep_override():
                raise ConfigError(str(each.key_or_group), _text(each), "one value; several take several commands")
        groups = [each for each in parsed if loader.get_group_options(each.key_or_group)]
        if groups:
            lines = [str(each.input_line) for each in groups]
            chosen = loader.load_configuration(CONFIG_NAME, lines, run_mode=RunMode.RUN)
            for each in groups:
                section = OmegaConf.to_container(chosen[each.key_or_group], resolve=False)
                OmegaConf.update(config, each.key_or_group, section, merge=False, force_add=True)
        for each in parsed:
            if each not in groups:
                _set(config, each)
    return validate(config)


def _set(config: DictConfig, override: Override) -> None:
    key = str(override.key_or_group)
    text = _text(override)
    above, _, last = key.rpartition(".")
    parent: Any = OmegaConf.select(config, above) if above else config
    known = isinstance(parent, DictConfig) and last in parent
    if not known and not override.is_add() and not override.is_force_add():
        raise ConfigError(key, text, f"no such key in this run's configuration; +{key}=... adds one")
    if override.is_delete():
        del parent[last]
    else:
        OmegaConf.update(config, key, override.value(), merge=True, force_add=True)


def _text(override: Override) -> str:
    return str(override.input_line).partition("=")[2]
