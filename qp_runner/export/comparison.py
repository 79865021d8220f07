"""What an exported file computes, beside the network that it came from, over a task's whole test set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.tasks import Task

Forward = Callable[..., Any]


@dataclass
class Agreement:
    """Two networks' outputs, compared batch by batch.

    Attributes:
        samples, agreeing: how many there were, and for how many the largest output is at the same place.
        tied: for how many the wanted output has its largest number twice; a difference of one code decides there.
        elements, equal: how many numbers, and how many are equal to the last bit.
        largest, summed: absolute difference.
    """

    samples: int = 0
    agreeing: int = 0
    tied: int = 0
    ranked: bool = True
    elements: int = 0
    equal: int = 0
    largest: float = 0.0
    summed: float = 0.0

    def add(self, made: Any, expected: Any) -> None:
        """Counts a batch. Outputs of other shapes count as different in all elements."""
        one, other = tensors(made), tensors(expected)
        self.ranked &= len(other) == 1 and other[0].ndim == 2 and other[0].shape[1] > 1
        self.samples += len(other[0]) if other and other[0].ndim else 1
        for number in range(max(len(one), len(other))):
            a, b = (each[number].detach().cpu() if number < len(each) else torch.zeros(0) for each in (one, other))
            self.elements += b.numel()
            if a.shape != b.shape:
                self.largest = float("inf")
                continue
            self.equal += int((a == b).sum())
            if b.numel():
                difference = (a.double() - b.double()).abs()
                self.largest = max(self.largest, float(difference.max()))
                self.summed += float(difference.sum())
        if self.ranked:
            self._rank(one[0].cpu(), other[0].cpu())

    def _rank(self, made: Tensor, expected: Tensor) -> None:
        self.agreeing += int((made.argmax(1) == expected.argmax(1)).sum())
        largest = expected.topk(2, dim=1).values
        self.tied += int((largest[:, 0] == largest[:, 1]).sum())

    @property
    def top1(self) -> float | None:
        """The share of samples whose largest output is at the same place; None where outputs are no scores."""
        return self.agreeing / max(self.samples, 1) if self.ranked else None

    @property
    def ties(self) -> float:
        """The share of samples whose largest wanted output is there twice."""
        return self.tied / max(self.samples, 1)

    @property
    def share_equal(self) -> float:
        """The share of equal numbers."""
        return self.equal / max(self.elements, 1) if self.largest < float("inf") else 0.0

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.summed / max(self.elements, 1)


def compare(task: Task, networks: dict[str, nn.Module], made: dict[str, list[Forward]]) -> "Compared":
    """Evaluates a task on its test set with other computations in the place of its networks.

    Args:
        task: its networks are in place again afterwards.
        networks: those that are replaced.
        made: by network, what computes in its place, and what else is to be compared with that.
    """
    against_network, among_made = Agreement(), Agreement()

    def beside(network: nn.Module, computations: list[Forward]) -> Forward:
        plain = network.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            wanted = plain(*args, **kwargs)
            outputs = [like(compute(*args, **kwargs), wanted) for compute in computations]
            against_network.add(outputs[0], wanted)
            for other in outputs[1:]:
                among_made.add(other, outputs[0])
            return outputs[0]

        return forward

    replaced = {name: beside(network, made[name]) for name, network in networks.items()}
    with in_place_of(networks, replaced):
        figures = task.evaluate("test")
    return Compared(figures, against_network, among_made)


@dataclass(frozen=True)
class Compared:
    """A task's figures with a file's networks, their agreement with the task's, and that of the file's runs."""

    figures: dict[str, float]
    network: Agreement
    runs: Agreement


@contextmanager
def in_place_of(networks: dict[str, nn.Module], forwards: dict[str, Forward]) -> Iterator[None]:
    """Inside, networks compute with other functions."""
    for name, network in networks.items():
        network.__dict__["forward"] = forwards[name]
    try:
        yield
    finally:
        for network in networks.values():
            del network.__dict__["forward"]


def tensors(output: Any) -> list[Tensor]:
    """The tensors in an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for each in output.values() for tensor in tensors(each)]
    return [tensor for each in output for tensor in tensors(each)] if isinstance(output, list | tuple) else []


def like(made: Any, wanted: Any) -> Any:
    """What was made on a network's device, and as one tensor where the network returns one."""
    if isinstance(wanted, Tensor) and isinstance(made, list) and len(made) == 1:
        return made[0].to(wanted.device)
    return made
