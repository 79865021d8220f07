"""Composing the jobs of a sweep, which differ little: each set of group choices once, single values on a copy."""

import copy
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


class Compositions:
    """What command lines of one program compose to.

    The result is Hydra's own: it, too, first merges what the groups say and then sets single values. A full
    composition takes a tenth of a second, most of it for reading files and merging them, and does not depend on values.
    """

    def __init__(self, loader: ConfigLoaderImpl, config_name: str) -> None:
        self.loader, self.config_name = loader, config_name
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._values: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        """The overrides that decide what is composed, and those that set single values of it.

        Raises what Hydra raises for bad syntax.
        """
        sets = {each: self._sets_a_value(each) for each in overrides}
        choosing = tuple(each for each in overrides if not sets[each])
        return choosing, [self.parse(each) for each in overrides if sets[each]]

    def base(self, choosing: tuple[str, ...]) -> DictConfig:
        """The composition of the choosing overrides, Hydra's own part included; not to be changed."""
        if choosing not in self._composed:
            self._composed[choosing] = self.loader.load_configuration(
                self.config_name, overrides=list(choosing), run_mode=RunMode.RUN
            )
        return self._composed[choosing]

    def parse(self, override: str) -> Override:
        """An override, parsed once."""
        if override not in self._parsed:
            [self._parsed[override]] = self._parser.parse_overrides([override])
        return self._parsed[override]

    def _sets_a_value(self, text: str) -> bool:
        """Whether an override sets a single value. Of Hydra's own part only a job's folder does: the rest may decide
        what is composed, or be read while it is.
        """
        if text not in self._values:
            override = self.parse(text)
            key = override.key_or_group
            if key == "hydra" or key.startswith(("hydra.", "hydra/")):
                self._values[text] = key == "hydra.sweep.subdir"
            else:
                is_group = self.loader.repository.group_exists(key)
                self._values[text] = isinstance(override.value(), dict) or not is_group
        return self._values[text]


def apply(values: Sequence[Override], config: DictConfig) -> None:
    """Sets single values in place. Raises what Hydra raises for a key that is not there."""
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)


class JobLoader(ConfigLoaderImpl):
    """Hydra's loader, with which a launcher composes the jobs of a sweep faster, to the same configurations.

    Launchers that run jobs in other processes send it there: what it has composed stays behind.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._known: Compositions | None = None

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """A job's configuration, in the steps of Hydra's own method."""
        if self._known is None:
            self._known = Compositions(self, master_config.hydra.job.config_name)
        known, overrides = self._known, [*map(str, master_config.hydra.overrides.hydra), *sweep_overrides]
        choosing, values = known.split(overrides)
        config = copy.deepcopy(known.base(choosing))
        apply(values, config)
        parsed = [known.parse(each) for each in overrides]
        ours = [each for each in parsed if not each.is_hydra_override()]
        config.hydra.overrides.hydra = [each.input_line for each in parsed if each.is_hydra_override()]
        config.hydra.overrides.task = [each.input_line for each in ours]
        config.hydra.job.override_dirname = get_overrides_dirname(ours, **config.hydra.job.config.override_dirname)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_known": None}
