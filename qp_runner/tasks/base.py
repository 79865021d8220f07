"""The interface of tasks. One training loop serves all of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qp_runner.data import HasRows, ImagePreprocessing, Rows
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.distillation import Distillation


class Task(ABC):
    """Owns data, networks, losses and a metric; knows nothing of compression, schedules or records.

    A task draws random numbers from separate generators, seeded by its seed and the position in training: runs with
    one seed see the same data in the same order, independent of their schedule. Only dropout inside a network draws
    from torch's global generators, which are seeded when training starts.
    """

    metric: Metric
    steps_per_epoch: int
    """Training steps of an epoch; a step is one batch, whatever its number of updates."""

    fixed_shapes: bool = True
    """Whether all training batches have the same shapes; only then is a step worth compiling or capturing."""

    caches: tuple[str, ...] = ()
    """Names of attributes that hold what can be computed again, and so are no part of a run's state."""

    teacher: Distillation | None = None
    """What the networks learn from besides the data. Tasks that have logits heed it: see `teachable`."""

    teachable: bool = False
    """Whether `updates` heeds the teacher."""

    network_arguments: Mapping[str, int] = MappingProxyType({})
    """What the factory of a teachable task's network was given besides its configuration."""

    def __init__(
        self, *, data: Any, samples: int, networks: Mapping[str, nn.Module], batch_size: int, seed: int
    ) -> None:
        """Keeps what the methods below are about, unless a task overrides them.

        Args:
            data: has `epoch`, `calibration` and `to`, as the sets in `qp_runner.data`; perhaps `rows` and `make`.
            samples: training samples of an epoch, of which steps take `batch_size` each.
            networks: all that are trained, by name.
            batch_size: training samples of a step.
            seed: decides the order of the data and everything drawn at random.

        Raises:
            ConfigError: a batch larger than an epoch.
        """
        if not 1 <= batch_size <= samples:
            raise ConfigError("trainer.batch_size", batch_size, f"from 1 to the {samples} training samples")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.steps_per_epoch = samples // batch_size
        self._networks = dict(networks)

    def networks(self) -> Mapping[str, nn.Module]:
        """All networks that are trained."""
        return self._networks

    def compressible(self) -> Mapping[str, nn.Module]:
        """The networks that are compressed; all of them by default."""
        return self.networks()

    def parameter_groups(self) -> Mapping[str, list[dict[str, Any]]]:
        """Torch parameter groups by optimizer; `lr_scale` in a group multiplies the configured learning rate.

        By default an optimizer for each network, with one group of all its parameters that are not frozen.
        """
        return {name: group(network) for name, network in self.networks().items()}

    @abstractmethod
    def updates(self, batch: Any) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimizer name, scalar loss); the code after a yield runs after that optimizer's step."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """An epoch's `steps_per_epoch` training batches, which depend on seed and epoch only."""
        yield from map(self.make, self.rows(epoch))

    def rows(self, epoch: int) -> Iterator[Any]:
        """The same batches before `make`. By default those of data that has rows; of other data, finished batches."""
        draw = self.data.rows if isinstance(self.data, HasRows) else self.data.epoch
        yield from draw(epoch, batch_size=self.batch_size, seed=self.seed)

    def make(self, rows: Any) -> Any:
        """The batch that `updates` takes, as a part of the step. One that is made already is returned as it is."""
        return self.data.make(rows) if isinstance(rows, Rows) else rows

    def given(self, epoch: int) -> Iterator[Any]:
        """What an epoch's steps are given, which `make` their batches: rows, unless a task has `batches` of its own."""
        return self.rows(epoch) if type(self).batches is Task.batches else self.batches(epoch)

    def calibration_batches(self, *, samples: int, batch_size: int) -> Iterator[Any]:
        """Batches of `samples` training samples in total (or of all, if there are fewer), the same at every call."""
        batches: Iterator[Any] = self.data.calibration(samples=samples, batch_size=batch_size, seed=self.seed)
        return batches

    @abstractmethod
    def infer(self, batch: Any) -> None:
        """Passes a batch through the compressible networks."""

    @abstractmethod
    def sample(self) -> Any:
        """A batch of one training sample."""

    @abstractmethod
    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """Figures by name, among them the metric, without gradients and in evaluation mode; restores all modes."""

    def preprocessing(self) -> ImagePreprocessing | None:
        """What makes the network's input of an image as people have it; None where the data has no such thing."""
        make = getattr(self.data, "preprocessing", None)
        made: ImagePreprocessing | None = None if make is None else make()
        return made

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs; empty where there are none."""
        return tuple(getattr(self.data, "classes", ()))

    def pictures(self) -> Mapping[str, Tensor]:
        """Outputs for a few samples outside the training set, by name: RGB, uint8 [3, h, w], on the CPU.

        The name of several images side by side describes them: `sample__left__middle__right`.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What training changes besides networks and optimizers, such as an image pool: tensors, numbers, strings and
        containers of them. Stored with every checkpoint.

        Plain attributes that training changes, such as a counter, are stored even without this. A task that has this
        method answers for all other objects that it changes.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a `state_dict`, whose tensors are on the CPU."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state, but was given {sorted(state)}")

    def to(self, device: torch.device) -> None:
        """Moves networks and data."""
        for network in self.networks().values():
            network.to(device)
        if self.teacher is not None:
            self.teacher.to(device)
        self.data = self.data.to(device)


def group(*networks: nn.Module) -> list[dict[str, Any]]:
    """All parameters of these networks as one parameter group, but those of frozen parts."""
    return [{"params": [each for network in networks for each in network.parameters() if each.requires_grad]}]


@contextmanager
def evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Networks in evaluation mode without gradients; afterwards each module's mode is restored."""
    modes = [(module, module.training) for network in networks.values() for module in network.modules()]
    for network in networks.values():
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
