"""Undoing training steps, such as those that warm up a CUDA graph."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from qp_runner.compress.python_state import Snapshot
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import caches, state_roots
from qp_runner.training.held_tensors import optimizer_tensors


class Undo:
    """Copies everything that a step may change: networks, optimizers, the task's own state, torch's generators, and the
    attributes of networks and task.
    """

    def __init__(self, task: Task, optimizers: Mapping[str, Optimizer]) -> None:
        self._task, self._optimizers = task, optimizers
        self._attributes = Snapshot(state_roots(task), apart=caches(task))  # and buffers
        self._parameters = [tensor.detach().clone() for tensor in self._network_parameters()]
        self._optimizer_states = {id(tensor): tensor.clone() for tensor in optimizer_tensors(self._optimizers).values()}
        self._task_state = tree_map(_copy, task.state_dict())
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @torch.no_grad()
    def restore(self) -> None:
        """Writes all copies back in place; may be called more than once.

        Optimizer state that was created since is set to zero, which is how torch's optimizers start (also SGD's
        momentum, without dampening). It stays allocated, because a captured step writes to it.
        """
        self._attributes.put_back()
        for tensor, copy in zip(self._network_parameters(), self._parameters, strict=True):
            tensor.copy_(copy)
        for tensor in optimizer_tensors(self._optimizers).values():
            if id(tensor) in self._optimizer_states:
                tensor.copy_(self._optimizer_states[id(tensor)])
            else:
                tensor.zero_()
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        self._task.load_state_dict(tree_map(_copy, self._task_state))

    def _network_parameters(self) -> list[Tensor]:
        return [tensor for network in self._task.networks().values() for tensor in network.parameters()]


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) else value
