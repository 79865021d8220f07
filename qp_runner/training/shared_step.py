"""Captured steps that outlive their job."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from qp_runner.training.fixed_values import Values, differing
from qp_runner.training.held_tensors import Place, parameters_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captured:
    """A step that can be repeated.

    Attributes:
        replay: repeats it on the same memory.
        inputs: takes the next batch.
        loss: where the step leaves its loss.
        read: what it reads and writes of that which its job holds, by path; None if that is not all, so that no other
            job can take the step over.
        states: what it keeps of the optimizers' states.
        fixed: what else it took from its job (see `fixed_values`).
        held: keeps other tensors alive.
    """

    replay: Callable[[], None]
    inputs: Any
    loss: Tensor
    read: Mapping[str, Tensor] | None
    states: Mapping[Place, Tensor]
    fixed: Values
    held: object = None


@dataclass
class SharedStep:
    """The captured step that a job left, for the next one whose step would be the same.

    A captured step works on fixed memory. The next job's values are copied into it, and its own tensors then lie there.
    All else that a step may read, such as numbers, has to be the same in both jobs. So the job is the one that it would
    be with a captured step of its own.
    """

    _left: Captured | None = field(default=None, repr=False)

    def leave(self, captured: Captured) -> None:
        """Takes a step from a job that has ended."""
        self._left = captured if captured.read is not None else None

    @torch.no_grad()
    def take(
        self,
        tensors: Mapping[str, Tensor],
        optimizers: Mapping[str, Optimizer],
        *,
        fixed: Values,
        fits: Callable[[Any], bool],
    ) -> Captured | None:
        """The step that was left, if it fits a job; it is then the job's alone.

        Args:
            tensors: what the job holds, by path.
            optimizers: the job's.
            fixed: all else that the job's step may read.
            fits: whether its batches fit these inputs.
        """
        left, self._left = self._left, None
        if left is None or left.read is None or not fits(left.inputs):
            return None
        if path := differing(left.fixed, fixed):
            log.info("the last job's captured step does not fit: %s is another", path)
            return None
        device = left.loss.device
        if not all(path in tensors and _fits(tensors[path], each, device) for path, each in left.read.items()):
            return None
        for path, each in left.read.items():
            each.copy_(tensors[path])
            tensors[path].data = each.data
        for name, optimizer in optimizers.items():
            _take_state(optimizer, {place[1:]: each for place, each in left.states.items() if place[0] == name})
        return left


def _fits(own: Tensor, held: Tensor, device: torch.device) -> bool:
    """Whether a job's tensor can lie where a step's does; if that is not on the device, its elements may be anywhere in
    the step, as numbers, so they have to be the same.
    """
    alike = own.shape == held.shape and own.stride() == held.stride()
    alike = alike and own.dtype == held.dtype and own.device == held.device
    if 0 in held.stride() and held.numel() > 1:
        return False  # elements that lie on each other can't be written to
    return alike and (held.device == device or torch.equal(own, held))


def _take_state(optimizer: Optimizer, held: Mapping[tuple[int, str], Tensor]) -> None:
    """Moves an optimizer's state into tensors that are held for it; what it does not have yet is zero."""
    parameters = parameters_of(optimizer)
    for (number, key), each in held.items():
        state = optimizer.state[parameters[number]]
        each.copy_(state[key]) if key in state else each.zero_()
        state[key] = each
