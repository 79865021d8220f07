"""Composing the jobs of a sweep, which differ little: each set of group choices is composed once, values are set on
a copy.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

JOB_FOLDER = ("hydra.sweep.dir", "hydra.sweep.subdir")
"""Of Hydra's own keys, those that nothing is composed from, so that they can be set afterwards."""


class JobLoader:
    """Stands in for Hydra's ConfigLoader where the jobs of one sweep are composed. What it makes is what Hydra makes.

    Composing takes Hydra a tenth of a second, most of it for reading and merging files. Copying a composition takes a
    fifteenth of that. Launchers that run jobs in other processes send the loader there, without its compositions.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._is_group: dict[str, bool] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickling asks for special methods before there is a loader
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_composed": {}, "_is_group": {}}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a job; its folder lies below the sweep's. Raises what Hydra raises."""
        parsed = OverridesParser.create(config_loader=self._loader).parse_overrides(sweep_overrides)
        values = self._values(parsed, master_config)
        others = tuple(str(each.input_line) for each in parsed if each not in values)
        if others not in self._composed:
            self._composed[others] = self._loader.load_sweep_config(master_config, list(others))
        config = copy.deepcopy(self._composed[others])
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        sweep: Any = OmegaConf.to_container(master_config.hydra.sweep)
        with read_write(config.hydra.sweep):
            config.hydra.sweep.dir = sweep["dir"]
            for each in values:
                _set(config, each)
        with read_write(config.hydra), open_dict(config.hydra):
            _record(config, parsed, list(master_config.hydra.overrides.hydra))
        return config

    def _values(self, parsed: Sequence[Override], command: DictConfig) -> list[Override]:
        """The overrides that replace one plain value and have nothing to do with any other override."""
        plain = [each for each in parsed if _is_plain(each) and not self._chooses(each.key_or_group, command)]
        others = [each.key_or_group for each in parsed if each not in plain]
        return [each for each in plain if not any(_overlap(each.key_or_group, other) for other in others)]

    def _chooses(self, key: str, command: DictConfig) -> bool:
        """Whether a key is a group, or one of Hydra's own keys that may decide what is composed."""
        if key.partition(".")[0] == "hydra" or key.startswith("hydra/"):
            return key not in JOB_FOLDER
        if key in command.hydra.runtime.choices:
            return True
        if key not in self._is_group:
            name, overrides = command.hydra.job.config_name, list(command.hydra.overrides.hydra)
            options = self._loader.get_group_options(key, config_name=name, overrides=overrides)
            self._is_group[key] = bool(options)
        return self._is_group[key]


def _is_plain(override: Override) -> bool:
    """Whether it replaces a value by a single other one."""
    adds_or_deletes = override.is_add() or override.is_force_add() or override.is_delete()
    if adds_or_deletes or override.package is not None or override.is_sweep_override():
        return False
    return not isinstance(override.value(), dict | list)


def _overlap(key: str, other: str) -> bool:
    """Whether one key lies within the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _set(config: DictConfig, override: Override) -> None:
    """Sets a value that is there already; the errors are Hydra's."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise ConfigCompositionException(f"Could not override '{override.key_or_group}'.") from error
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}: {error}") from error


def _record(config: DictConfig, parsed: Sequence[Override], before: list[str]) -> None:
    """Notes the overrides where Hydra does: as lists, and as the text that may name a job's folder."""
    ours = [str(each.input_line) for each in parsed if not each.is_hydra_override()]
    hydras = [str(each.input_line) for each in parsed if each.is_hydra_override()]
    config.hydra.overrides.task, config.hydra.overrides.hydra = ours, before + hydras
    if OmegaConf.is_interpolation(config.hydra.job, "override_dirname"):  # from Hydra 1.4 on it is read from the lists
        return
    named = config.hydra.job.config.override_dirname
    kept = [
        str(each.input_line)
        for each in parsed
        if not each.is_hydra_override() and each.key_or_group not in named.exclude_keys
    ]
    config.hydra.job.override_dirname = re.sub("=", lambda _: named.kv_sep, named.item_sep.join(sorted(kept)))
