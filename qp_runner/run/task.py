"""A task with its data and networks, and the compressor around them, from a checked configuration."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qp_runner.compress import Compressor
from qp_runner.config import Config, Factory
from qp_runner.config.instantiate import call, instantiate
from qp_runner.data import ImageData, Mixing
from qp_runner.data.many_files import show_bars
from qp_runner.errors import ConfigError
from qp_runner.run.initial import load_initial
from qp_runner.run.networks import NetworkFactory, attach_compressor, network_factories
from qp_runner.tasks import Task

Run = Callable[[], None]


def build_data(config: Config) -> Any:
    """The data of a run. Raises ConfigError for images to be mixed where there are no images with classes."""
    show_bars(config.trainer.progress)
    data, section = instantiate("data.factory", config.data.factory), config.data
    mixing = Mixing(mixup=section.mixup, cutmix=section.cutmix)
    if not (mixing.mixup or mixing.cutmix):
        return data
    if not isinstance(data, ImageData):
        key = "mixup" if mixing.mixup else "cutmix"
        raise ConfigError(f"data.{key}", getattr(mixing, key), "0: only images with classes can be mixed")
    return replace(data, mixing=mixing)


def build_task(config: Config, *, data: Any = None, networks: Mapping[str, NetworkFactory] | None = None) -> Task:
    """The task with its data and networks (None: those of the configuration), on the CPU."""
    data = build_data(config) if data is None else data
    networks = network_factories(config) if networks is None else networks
    factory = {**filled(config.task.factory, data), "_partial_": True}
    make_task = instantiate("task.factory", factory)
    settings = {"batch_size": config.trainer.batch_size, "seed": config.seed}
    task: Task = call("task.factory", make_task, data=data, networks=networks, **settings)
    load_initial(config, task.networks(), networks)
    return task


def filled(factory: Factory, data: Any) -> Factory:
    """A task's configuration, with the number of classes where `loss` or `metrics` have the text `classes`."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        if value == "classes":
            if count := len(getattr(data, "classes", ())):
                return count
            raise ConfigError("task.factory", "classes", "a number: the data have no classes")
        return value

    return {key: fill(value) if key in ("loss", "metrics") else value for key, value in factory.items()}


def build_compressor(config: Config, task: Task) -> Compressor:
    """The compressor, attached to the task's compressible networks, shapes already known."""
    one, pair = sample_passes(task)
    return attach_compressor(config, task.compressible(), run=one, pair=pair)


def sample_passes(task: Task) -> tuple[Run, Run]:
    """Forward passes of one training sample and of two."""

    def one() -> None:
        task.infer(task.sample())

    def pair() -> None:
        for batch in task.calibration_batches(samples=2, batch_size=2):
            task.infer(batch)

    return one, pair
