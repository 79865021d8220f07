"""How a task calls its networks: what the exporter has to be shown."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.errors import ExportError
from qp_runner.tasks import Task
from qp_runner.tasks.base import evaluating

KEPT = 64  # samples of calls that are kept


@dataclass
class Usage:
    """Calls of a network.

    Attributes:
        shapes: of the arguments, as often as they differ beyond the batch.
        inputs: of the first calls, up to `KEPT` samples.
    """

    shapes: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    inputs: list[tuple[Tensor, ...]] = field(default_factory=list)

    def add(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Notes a call. ExportError for arguments that are no tensors."""
        if kwargs or not args or not all(isinstance(each, Tensor) and each.ndim for each in args):
            given = ", ".join([*(type(each).__name__ for each in args), *kwargs])
            raise ExportError(f"ONNX needs networks that are called with tensors alone, by place; this with {given}")
        shapes = tuple(tuple(each.shape[1:]) for each in args)
        if shapes not in self.shapes:
            self.shapes.append(shapes)
        if sum(len(each[0]) for each in self.inputs) < KEPT:
            self.inputs.append(tuple(each.detach().cpu() for each in args))

    def pair(self) -> tuple[Tensor, ...]:
        """Arguments of two samples at least."""
        first = self.inputs[0]
        return first if len(first[0]) > 1 else tuple(torch.cat([each, each]) for each in first)


def free_sizes(*usages: Usage) -> list[list[int]]:
    """By argument, the dimensions beyond the batch whose size differs between calls."""
    shapes = [each for usage in usages for each in usage.shapes]
    return [
        [axis + 1 for axis in range(len(sizes[0])) if len({each[axis] for each in sizes}) > 1]
        for sizes in zip(*shapes, strict=True)
    ]


@contextmanager
def watched(networks: dict[str, nn.Module]) -> Iterator[dict[str, Usage]]:
    """Inside, calls of networks are noted."""
    found = {name: Usage() for name in networks}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, args, kwargs: found[name].add(args, kwargs)

    handles = [
        network.register_forward_pre_hook(note(name), with_kwargs=True, prepend=True)
        for name, network in networks.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def calibrating(task: Task, networks: dict[str, nn.Module], *, samples: int, batch_size: int) -> dict[str, Usage]:
    """Calls for training samples."""
    with watched(networks) as found, evaluating(networks):
        for batch in task.calibration_batches(samples=samples, batch_size=batch_size):
            task.infer(batch)
    return found


def as_numpy(inputs: Sequence[Tensor]) -> list[Any]:
    """Tensors as NumPy arrays."""
    return [each.detach().cpu().numpy() for each in inputs]
