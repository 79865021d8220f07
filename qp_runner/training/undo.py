"""Undoing training steps, such as those that warm up a CUDA graph."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from qp_runner.compress.python_state import Snapshot
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches, state_roots
from qp_runner.training.seeding import generator_states, set_generator_states

CPU = torch.device("cpu")


class Undo:
    """Copies everything that a step may change: networks, optimizers, the task's own state, the global random
    generators, and the attributes of networks and task.
    """

    def __init__(self, task: Task, optimizers: Mapping[str, Optimizer]) -> None:
        self._task = task
        self._attributes = Snapshot(state_roots(task), apart=caches(task))  # and buffers
        self._parameters = [tensor.detach().clone() for tensor in self._network_parameters()]
        self._optimizers = [_OptimizerCopy(each) for each in optimizers.values()]
        self._task_state = tree_map(_copy, task.state_dict())
        self._generators = generator_states(CPU)
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @torch.no_grad()
    def restore(self, *, allocated: bool = False) -> None:
        """Writes all copies back in place; may be called more than once.

        Args:
            allocated: keeps the optimizer state that was created since, as zeros, because a captured step writes to it
                (see `starts_at_zero`). Otherwise it is removed, and the next step creates it anew.
        """
        self._attributes.put_back()
        for tensor, copy in zip(self._network_parameters(), self._parameters, strict=True):
            tensor.copy_(copy)
        for each in self._optimizers:
            each.put_back(allocated=allocated)
        set_generator_states(self._generators, CPU)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        self._task.load_state_dict(tree_map(_copy, self._task_state))

    def _network_parameters(self) -> list[Tensor]:
        return [tensor for network in self._task.networks().values() for tensor in network.parameters()]


class _OptimizerCopy:
    """An optimizer's state and settings at one time."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._state = {
            parameter: {key: (value, _copy(value)) for key, value in state.items()}
            for parameter, state in optimizer.state.items()
        }
        self._settings = [
            {key: value for key, value in group.items() if key != "params" and not isinstance(value, Tensor)}
            for group in optimizer.param_groups
        ]

    def put_back(self, *, allocated: bool) -> None:
        for group, settings in zip(self._optimizer.param_groups, self._settings, strict=True):
            group.update(settings)
        for parameter, state in list(self._optimizer.state.items()):
            before = self._state.get(parameter, {})
            for key in [each for each in state if each not in before]:
                if allocated and isinstance(state[key], Tensor):
                    state[key].zero_()
                else:
                    del state[key]
            for key, (value, copy) in before.items():
                state[key] = value.copy_(copy) if isinstance(value, Tensor) and isinstance(copy, Tensor) else copy
            if not state:
                del self._optimizer.state[parameter]


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) else value
