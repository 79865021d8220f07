"""A finished run's networks, ready to use: `qp_runner.load`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from qp_runner.compress import Compressor, put_site_states
from qp_runner.config import Config, validate
from qp_runner.data import ImagePreprocessing
from qp_runner.errors import ConfigError
from qp_runner.export.loading import load_packed
from qp_runner.run.example_inputs import NetworkCall, example, repeat
from qp_runner.run.model_file import About, ModelFile, read_model_file
from qp_runner.run.networks import attach_compressor, network_factories
from qp_runner.run.task import build_compressor, build_task


@dataclass(frozen=True)
class Loaded:
    """What a run came to.

    Attributes:
        networks: all networks of the task by name, in evaluation mode; those that are compressed compute with masks and
            scales.
        compressor: has their sites.
        preprocessing: makes the input of an image; None where the task has no such thing.
        classes: names of the classes, in the order of the outputs; empty where there are none.
        config: of the run.
        file: what was read.
    """

    networks: dict[str, nn.Module]
    compressor: Compressor
    preprocessing: ImagePreprocessing | None
    classes: tuple[str, ...]
    config: Config
    file: ModelFile

    @property
    def network(self) -> nn.Module:
        """The network that is compressed. Raises ValueError where there are several: see `networks`."""
        return self.networks[self._name(None)]

    def bake(self, name: str | None = None) -> nn.Module:
        """A plain network that computes the same to the last bit, without sites (see `Compressor.bake`).

        `name` is needed where several networks are compressed.
        """
        return self.compressor.bake(self.networks[self._name(name)])

    def example(self, name: str | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that the network can be called with, by place and by name: of one sample, all zeros.

        Raises ValueError for a network whose arguments are no plain data.
        """
        found = [each for each in _calls(self.file.about, "one") or [] if each.network == self._name(name)]
        if not found:
            raise ValueError(f"it is not known how {self._name(name)} is called")
        return example(found[0].args), example(found[0].kwargs)

    def __call__(self, inputs: Any, *others: Any, **named: Any) -> Any:
        """The network's output, without gradients. Images (PIL's, or uint8) are preprocessed first."""
        if self.preprocessing is not None and not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            inputs = self.preprocessing(inputs).to(next(self.network.parameters()).device)
        with torch.no_grad():
            return self.network(inputs, *others, **named)

    def _name(self, name: str | None) -> str:
        names = self.file.about.compressible
        if name is None and len(names) != 1:
            raise ValueError(f"several networks are compressed: {', '.join(names)}; say which")
        return names[0] if name is None else name


@overload
def load(run: Path | str) -> Loaded: ...


@overload
def load(run: Path | str, *, network: nn.Module, name: str | None = None) -> nn.Module: ...


def load(run: Path | str, *, network: nn.Module | None = None, name: str | None = None) -> Loaded | nn.Module:
    """Loads a finished run from its folder, or from the `model.safetensors` in it, onto the CPU; or, into a network
    that is given, a packed file (see `export.loading.load_packed`), which holds no configuration.

    Neither data nor MLflow is needed, unless a task calls its networks with objects of its own, or changes them once
    they are built. The file holds tensors and text. But the classes that its configuration names are imported and built
    as for a run, so load what you would run; of a stranger's file take the weights alone, with `model.init=FILE`.

    Raises:
        ConfigError: no such file, a damaged one, or networks that are not as they were.
        PackedError: the same of a packed file.
    """
    if network is not None:
        return load_packed(run, network, name=name)
    file = read_model_file(Path(run), key="run")
    config = without_initial(validate(file.about.config))
    try:
        networks, compressor = _without_data(file.about, config)
        put_back(file, networks, compressor)
    except ConfigError:  # its task makes something else of its networks than their configuration says
        networks, compressor = _with_data(config)
        put_back(file, networks, compressor)
    for network in networks.values():
        network.eval()
    classes = tuple(file.about.classes)
    return Loaded(networks, compressor, file.preprocessing, classes, validate(file.about.config), file)


def put_back(file: ModelFile, networks: Mapping[str, nn.Module], compressor: Compressor) -> None:
    """Gives networks and sites what a file holds. Raises ConfigError where they do not fit."""
    for name, network in networks.items():
        try:
            network.load_state_dict(file.weights[name])
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError("run", file.path, f"a run whose networks are built as they were: {reason}") from error
        buffers = dict(network.named_buffers())
        for path, value in file.buffers[name].items():
            if path in buffers and buffers[path].shape == value.shape:
                buffers[path].copy_(value)
    put_site_states(compressor, file.sites, key="run", value=str(file.path))


def without_initial(config: Config) -> Config:
    """The configuration without the weights that training started from: they are not needed any more."""
    start: dict[str, Any] = {"init": None, "init_compression": False, "init_skip": [], "weights": None}
    return config.model_copy(update={"model": config.model.model_copy(update=start)})


def rebuilt(config: Config, given: Mapping[str, dict[str, Any]] | None) -> dict[str, nn.Module]:
    """A run's networks, built anew with what its task gave them, or (None) by its task; nothing global is drawn."""
    plain = without_initial(config)
    with torch.random.fork_rng(devices=[]):
        if given is None:
            return dict(build_task(plain).networks())
        return {name: make(**given[name]) for name, make in network_factories(plain).items()}


def _without_data(about: About, config: Config) -> tuple[dict[str, nn.Module], Compressor]:
    """Networks as their configuration says. Raises ConfigError where that is not enough."""
    one, pair = _calls(about, "one"), _calls(about, "pair")
    if about.given is None or one is None or pair is None:
        raise ConfigError("run", config.task.name, "a task that builds and calls networks with plain data")
    networks = rebuilt(config, about.given)
    for name, network in networks.items():
        for path, parameter in network.named_parameters():
            parameter.requires_grad_(path not in about.frozen.get(name, ()))
    compressible = {name: networks[name] for name in about.compressible}
    run, both = (partial(repeat, compressible, calls) for calls in (one, pair))
    return networks, attach_compressor(config, compressible, run=run, pair=both)


def _calls(about: About, which: str) -> list[NetworkCall] | None:
    found = (about.calls or {}).get(which)
    return None if found is None else [NetworkCall(**each) for each in found]


def _with_data(config: Config) -> tuple[dict[str, nn.Module], Compressor]:
    """Networks that only their task, with its data, can build or call."""
    task = build_task(config)
    return dict(task.networks()), build_compressor(config, task)
