"""What a task is: the trainer's one loop serves every subclass."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qp_runner.metric import Metric


class Task(ABC):
    """Owns data, networks, losses and a metric; knows nothing of compression, schedules or records.

    Whatever a task draws at random comes from generators of its own, seeded by its seed and the place in training:
    runs with one seed see the same data in the same order, whatever their schedule. Dropout inside a network alone
    draws from torch's generators, which are seeded when training starts.
    """

    metric: Metric
    steps_per_epoch: int
    """Training steps of an epoch; a step is one batch, whatever the number of updates it makes."""

    fixed_shapes: bool = True
    """Whether all training batches have the same shapes; only then is a step worth compiling or capturing."""

    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks that are trained."""

    def compressible(self) -> Mapping[str, nn.Module]:
        """The networks that are compressed: all of them, unless a task says otherwise."""
        return self.networks()

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, list[dict[str, Any]]]:
        """Torch parameter groups by optimizer; `lr_scale` in a group multiplies the configured learning rate."""

    @abstractmethod
    def updates(self, batch: Any) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimizer name, scalar loss); what follows a yield runs after that optimizer's step."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """An epoch's `steps_per_epoch` training batches, a function of seed and epoch alone."""

    @abstractmethod
    def calibration_batches(self, *, samples: int, batch_size: int) -> Iterator[Any]:
        """Batches with `samples` training samples in all (at most all there are), the same ones at every call."""

    @abstractmethod
    def infer(self, batch: Any) -> None:
        """Passes a batch through the compressible networks."""

    @abstractmethod
    def sample(self) -> Any:
        """A batch of one sample."""

    @abstractmethod
    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """Measures in evaluation mode, without gradients; holds at least the metric. Leaves every mode as it was."""

    def pictures(self) -> Mapping[str, Tensor]:
        """What the networks make of a few samples they were not trained on: RGB, uint8 [3, h, w], on the CPU, by name.

        Where an image is several side by side, `sample__left__middle__right` says what they are.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What training changes beside networks and optimizers (an image pool, say): tensors, numbers, texts and
        containers of them. Stored with every checkpoint.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave; tensors come on the CPU."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state of its own, but was given {sorted(state)}")

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Moves networks and data."""


@contextmanager
def evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Networks in evaluation mode and no gradients; afterwards each module's own mode is back."""
    modes = [(module, module.training) for network in networks.values() for module in network.modules()]
    for network in networks.values():
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
