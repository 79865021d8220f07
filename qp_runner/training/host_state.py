"""What a step may change that a captured one would not, as only the device's operations are repeated."""

import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from qp_runner.compress.plain import Reference, Written, write
from qp_runner.compress.python_state import structure
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches, state_roots
from qp_runner.training.optim import own_settings


def host_state(
    task: Task, optimizers: Mapping[str, Optimizer], tensors: Mapping[str, Tensor], device: torch.device
) -> dict[str, Written]:
    """Attributes of networks and task, the optimizers' settings and state, global random generators: by path, for
    comparison. A tensor on the device counts by which one it is; of others it matters too whether they were written to.

    Args:
        task: with its networks.
        optimizers: by name.
        tensors: all others that the job holds, by path.
        device: of the step.
    """
    found = structure(state_roots(task), apart=caches(task)) | _generators(device)
    for path, value in _of_optimizers(optimizers):
        found[path] = write(value, tensor=lambda each: _tensor(each, device))
    return found | {path: _tensor(each, device) for path, each in tensors.items() if each.device.type != device.type}


def _tensor(value: Tensor, device: torch.device) -> Reference:
    counted = value.device.type != device.type and not value.is_inference()
    return Reference(value, value._version if counted else None)


def _of_optimizers(optimizers: Mapping[str, Optimizer]) -> Iterator[tuple[str, object]]:
    for name, optimizer in optimizers.items():
        for number, group in enumerate(optimizer.param_groups):
            yield f"optimizer {name}, group {number}", own_settings(group, optimizer)
        for number, state in enumerate(optimizer.state.values()):
            for key, value in state.items():
                yield f"optimizer {name}, {key} of parameter {number}", value


def _generators(device: torch.device) -> dict[str, Written]:
    found = {"Python's random generator": random.getstate(), "NumPy's random generator": np.random.get_state(False)}  # noqa: NPY002
    if device.type != "cpu":
        found["torch's random generator of the CPU"] = torch.get_rng_state().numpy()
    return {name: write(state) for name, state in found.items()}
