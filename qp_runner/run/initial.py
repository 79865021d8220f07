"""The weights that networks start from: `model.init` and `model.weights`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress import Compressor, put_site_states
from qp_runner.config import Config
from qp_runner.data.many_files import file_digest
from qp_runner.errors import ConfigError
from qp_runner.models.libraries import timm_weights, torchvision_weights
from qp_runner.models.weight_files import fitted, read_weights, without_prefix
from qp_runner.run.model_file import NAME, is_special, read_model_file
from qp_runner.run.networks import NetworkFactory

KEY = "model.init"


def load_initial(config: Config, networks: Mapping[str, nn.Module], factories: Mapping[str, NetworkFactory]) -> None:
    """Loads the weights that networks start from, if the configuration names any; where there are several networks,
    each name begins with its network's.

    Raises ConfigError for weights of other networks, and whatever can't be read or fetched.
    """
    section = config.model
    if not section.starts_trained:
        return
    prefixed = {(f"{name}." if len(networks) > 1 else ""): network for name, network in networks.items()}
    wanted = {prefix + name: value for prefix, each in prefixed.items() for name, value in _tensors(each).items()}
    key, value = (KEY, section.init) if section.init is not None else ("model.weights", section.weights)
    state = _published(config, factories) if section.init is None else read_weights(_file(section.init), key=KEY)
    state = {name: each for name, each in without_prefix(state, wanted).items() if not is_special(name)}
    found = fitted(state, wanted, skip=section.init_skip, key=key, value=value)
    for prefix, network in prefixed.items():
        own = {name.removeprefix(prefix): each for name, each in found.items() if name.startswith(prefix)}
        network.load_state_dict(own, strict=False)


def load_initial_sites(config: Config, compressor: Compressor) -> None:
    """With `model.init_compression`, gives sites the masks and scales of the run that `model.init` names."""
    section = config.model
    if section.init_compression and section.init is not None:
        file = read_model_file(Path(section.init).expanduser(), key=KEY)
        put_site_states(compressor, file.sites, key=KEY, value=section.init)


def model_record(config: Config) -> dict[str, Any]:
    """The section `model` as plain data for comparisons: a file counts with its content, wherever it lies."""
    plain = config.model.model_dump()
    if config.model.init is not None:
        path = Path(_file(config.model.init)).expanduser()
        if path.is_file():
            plain["init"] = file_digest(path, key=KEY)
    return plain


def _file(place: str) -> str:
    """The file of weights: of a folder, the one that a run leaves there."""
    return str(Path(place, NAME)) if Path(place).expanduser().is_dir() else place


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}


def _published(config: Config, factories: Mapping[str, NetworkFactory]) -> dict[str, Tensor]:
    """Weights of the library that a network is of."""
    weights = str(config.model.weights)
    [factory, *others] = factories.values()
    [section] = config.model.networks.values() if not others else [{}]
    target, name = str(section.get("_target_", "")), str(section.get("name", ""))
    with torch.random.fork_rng(devices=[]):  # timm builds a network for it
        if target == "qp_runner.models.torchvision_network":
            return torchvision_weights(name=name, weights=weights)
        if target == "qp_runner.models.timm_network":
            given = factory.given or {}
            return timm_weights(name=name, weights=weights, in_channels=int(given.get("in_channels", 3)))
    raise ConfigError("model.weights", weights, "null, or model=torchvision or model=timm; for others model.init=FILE")
