"""The network from whose outputs another one learns."""

import copy
from pathlib import Path

from torch import nn

from qp_runner.config import Config
from qp_runner.config.instantiate import instantiate
from qp_runner.errors import ConfigError
from qp_runner.models.weight_files import fitted, read_weights, without_prefix
from qp_runner.run.loading import load
from qp_runner.tasks import Distillation, Task
from qp_runner.tasks.networks import build_networks

KEY = "trainer.teacher"


def load_teacher(config: Config, task: Task) -> Distillation:
    """The teacher that `trainer.teacher` names: the task's own network, or `trainer.distillation.network`, with stored
    weights. Call it before anything is attached to the task's networks.

    Raises:
        ConfigError: a task without logits, a file that can't be read, weights that don't fit the network.
    """
    section, name = config.trainer.distillation, str(config.trainer.teacher)
    networks = dict(task.compressible())
    if not task.teachable or len(networks) != 1:
        raise ConfigError(KEY, name, f"null: task={config.task.name} does not learn from a teacher")
    [(role, own)] = networks.items()
    if Path(name).expanduser().is_dir():
        return Distillation(_of_run(name), temperature=section.temperature, weight=section.weight)
    network = copy.deepcopy(own)
    if section.network is not None:
        make = instantiate("trainer.distillation.network", {**section.network, "_partial_": True})
        [network] = build_networks({role: make}, {role: task.network_arguments}, task="teacher", seed=0).values()
    wanted = network.state_dict()
    found = fitted(without_prefix(read_weights(name, key=KEY), wanted), wanted, key=KEY, value=name)
    network.load_state_dict(found, strict=False)  # counters of batches may be missing
    return Distillation(network, temperature=section.temperature, weight=section.weight)


def _of_run(folder: str) -> nn.Module:
    """The network that a run ended with, as it is after its events."""
    try:
        return load(folder).bake()
    except (ConfigError, ValueError) as error:
        raise ConfigError(KEY, folder, f"a finished run of one network: {error}") from error
