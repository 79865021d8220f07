"""The network from whose outputs another one learns."""

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.config import Config
from qp_runner.config.instantiate import instantiate
from qp_runner.errors import ConfigError
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
    network = copy.deepcopy(own)
    if section.network is not None:
        make = instantiate("trainer.distillation.network", {**section.network, "_partial_": True})
        [network] = build_networks({role: make}, {role: task.network_arguments}, task="teacher", seed=0).values()
    fit(network, teacher_weights(Path(name).expanduser()), name)
    return Distillation(network, temperature=section.temperature, weight=section.weight)


def teacher_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file: plain, or below `state_dict`, `model` or `network`; or in the folder of a run.

    Runs no code of the file. Raises ConfigError for a file that is missing or holds something else.
    """
    path = path / "model.pt" if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(KEY, path, "a file with a state_dict (.pt, .pth or .safetensors)")
    try:
        found: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(KEY, path, f"a file with a state_dict: {reason}") from error
    for key in ("networks", "state_dict", "model", "network"):
        found = found[key] if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ConfigError(KEY, path, "a file with a state_dict: tensors by name")
    return {str(name): each for name, each in found.items()}


def fit(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Loads weights. Raises ConfigError for missing, unexpected or misshapen ones."""
    own = network.state_dict()
    missing, others = [each for each in own if each not in weights], [each for each in weights if each not in own]
    shapes = [each for each in own if each in weights and own[each].shape != weights[each].shape]
    wrong = {"lacks": missing, "has besides": others, "has in another shape": shapes}
    if said := [f"{what} {', '.join(names[:3])}" for what, names in wrong.items() if names]:
        raise ConfigError(KEY, name, f"weights of {type(network).__name__}; the file {'; '.join(said)}")
    network.load_state_dict(dict(weights))
