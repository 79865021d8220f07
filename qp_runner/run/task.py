"""A task with its data and networks, and the compressor around them, from a checked configuration."""

from collections.abc import Callable, Mapping
from typing import Any

from qp_runner.compress import Compressor
from qp_runner.config import Config
from qp_runner.config.instantiate import call, instantiate
from qp_runner.run.initial import load_initial
from qp_runner.run.networks import NetworkFactory, attach_compressor, network_factories
from qp_runner.tasks import Task

Run = Callable[[], None]


def build_data(config: Config) -> Any:
    """The data of a run."""
    return instantiate("data.factory", config.data.factory)


def build_task(config: Config, *, data: Any = None, networks: Mapping[str, NetworkFactory] | None = None) -> Task:
    """The task with its data and networks (None: those of the configuration), on the CPU."""
    data = build_data(config) if data is None else data
    networks = network_factories(config) if networks is None else networks
    factory = {**config.task.factory, "_partial_": True}
    make_task = instantiate("task.factory", factory)
    settings = {"batch_size": config.trainer.batch_size, "seed": config.seed}
    task: Task = call("task.factory", make_task, data=data, networks=networks, **settings)
    load_initial(config, task.networks(), networks)
    return task


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
