"""The state of a run between two steps: a run restored from it continues with the same bits."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from qp_runner.compress import Compressor
from qp_runner.tasks import Task
from qp_runner.training.attribute_state import AttributeState
from qp_runner.training.averaging import WeightAverage
from qp_runner.training.checkpoint_file import CheckpointError
from qp_runner.training.digester import Digester, NotDigestibleError
from qp_runner.training.fitting import fixed_shapes, misfit, optimizer_misfit
from qp_runner.training.learning_rates import LearningRates
from qp_runner.training.seeding import generator_states, set_generator_states


class RunState:
    """Everything that the coming steps depend on.

    Attributes:
        task: holds the networks.
        compressor: holds masks and scales; None for a plain float run.
        average: of the weights; None where none is kept.
        steps_done: the training steps so far.
        events_fired: whether any event of the schedule has fired.
        history: everything recorded so far, as (steps done, values by name).
        epoch: the current epoch, counted from 0.
        epoch_loss: the sum of its losses so far, on the device.
    """

    def __init__(
        self,
        *,
        task: Task,
        compressor: Compressor | None,
        optimizers: Mapping[str, Optimizer],
        learning_rates: LearningRates,
        device: torch.device,
        average: WeightAverage | None = None,
    ) -> None:
        self.average = average
        self.task, self.compressor, self.device = task, compressor, device
        self.optimizers, self.learning_rates = optimizers, learning_rates
        self.steps_done = 0
        self.events_fired = False
        self.history: list[tuple[int, dict[str, float]]] = []
        self._attributes, self._around = AttributeState(task), AttributeState(task, networks=False)
        self._epoch_start: dict[str, Any] = {}
        self.start_epoch(0)

    def start_epoch(self, number: int) -> None:
        """Resets the loss and the clock for an epoch."""
        self.epoch = number
        self.epoch_loss: Tensor = torch.zeros((), device=self.device)
        self._epoch_started = time.perf_counter()

    def before_batches(self) -> None:
        """Call this before an epoch's batches are made: whoever goes on from within the epoch makes them again."""
        self._epoch_start = {"generators": generator_states(self.device)}
        with suppress(CheckpointError):  # what can't be stored is reported when a checkpoint is due
            self._epoch_start["around"] = self._around.capture()

    @property
    def epoch_seconds(self) -> float:
        """Time spent on the current epoch, including what it took before the run was resumed."""
        return time.perf_counter() - self._epoch_started

    def capture(self, batch: Any = None) -> dict[str, Any]:
        """The state as plain data. Its tensors are those in use: store them before the next step.

        Raises CheckpointError if training has changed what can't be written as plain data. The next batch, as far as
        there is one, is stored as a digest.

        Masks and scales are left out until an event has fired: until then they are those of any new run. Long lists of
        numbers become tensors or one string, since storing them one by one takes longer than everything else.
        """
        compressor = self.compressor if self.events_fired else None
        return {
            "step": self.steps_done,
            "epoch": self.epoch,
            "loss": self.epoch_loss,
            "seconds": self.epoch_seconds,
            "networks": {name: network.state_dict() for name, network in self.task.networks().items()},
            "compressor": None if compressor is None else compressor.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "learning_rates": self.learning_rates.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "task": dict(self.task.state_dict()),
            "attributes": self._attributes.capture(),
            "epoch_start": self._epoch_start,
            "batch": batch_digest(batch),
            "generators": generator_states(self.device),
            "history": json.dumps(self.history),
        }

    def batches_again(self, content: dict[str, Any]) -> Iterator[Any] | None:
        """The batches after a captured state: its epoch's, made again as they were made then, without those done.

        None if they do not come out the same, as they depend on more than seed and epoch, the task's attributes and the
        global generators; all of these are then as they were before. Call `restore` afterwards.
        """
        if "around" not in content["epoch_start"]:
            return None
        before = {"generators": generator_states(self.device), "around": self._around.capture()}
        self._rewind(content["epoch_start"])
        done = content["step"] - content["epoch"] * self.task.steps_per_epoch
        if done == self.task.steps_per_epoch:
            return iter(())
        batches = islice(self.task.given(content["epoch"]), done, None)
        following = next(batches, None)
        if batch_digest(following) == content["batch"]:
            return chain([following], batches)
        self._rewind(before)
        return None

    def misfit(self, content: dict[str, Any]) -> str:
        """Why a stored state can't be this run's: what it lacks, or which tensor has another shape; empty if it can.

        Ask before the first step. What has no fixed form need only be there.
        """
        whole = {"step": 0, "epoch": 0, "loss": self.epoch_loss, "seconds": 0.0, "history": "", "batch": ""}
        whole |= {"networks": {name: fixed_shapes(network) for name, network in self.task.networks().items()}}
        whole |= {"learning_rates": self.learning_rates.state_dict(), "generators": generator_states(self.device)}
        whole |= {"average": None if self.average is None else self.average.state_dict()}
        whole |= {"optimizers": dict.fromkeys(self.optimizers), "task": dict.fromkeys(self.task.state_dict())}
        whole |= {
            "epoch_start": {"generators": {}, "around": {"set": {}}},
            "attributes": {"set": {}},
            "compressor": None,
        }
        if self.compressor is not None and content.get("compressor") is not None:
            whole["compressor"] = self.compressor.state_dict()
        found = (optimizer_misfit(each, content["optimizers"][name], name) for name, each in self.optimizers.items())
        return misfit(whole, content, "the state") or next((each for each in found if each), "")

    def _rewind(self, earlier: dict[str, Any]) -> None:
        self._around.restore(earlier["around"])
        set_generator_states(earlier["generators"], self.device)

    def restore(self, content: dict[str, Any]) -> None:
        """Restores what `capture` gave, writing into the tensors that exist."""
        self._attributes.restore(content["attributes"])
        for name, network in self.task.networks().items():
            network.load_state_dict(content["networks"][name])
        if self.compressor is not None and content["compressor"] is not None:
            self.compressor.load_state_dict(content["compressor"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # captured steps read it on the device
                    group["lr"] = group["lr"].to(self.device)
        self.learning_rates.load_state_dict(content["learning_rates"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.task.load_state_dict(content["task"])
        self.history = saved_history(content)
        self.steps_done, self.events_fired = content["step"], content["compressor"] is not None
        self.start_epoch(content["epoch"])
        self.epoch_loss = content["loss"].to(self.device)
        self._epoch_started -= content["seconds"]
        self._epoch_start = content["epoch_start"]
        set_generator_states(content["generators"], self.device)


def batch_digest(batch: Any) -> str:
    """Of a batch's content; empty for None. Raises CheckpointError for one that has none."""
    digester = Digester()
    try:
        digester.take("batch", batch)
    except NotDigestibleError as error:
        raise CheckpointError(str(error)) from error
    return "" if batch is None else digester.hexdigest()


def saved_history(content: dict[str, Any]) -> list[tuple[int, dict[str, float]]]:
    """The history in a captured state: every number exact, NaN and infinities included."""
    return [(step, values) for step, values in json.loads(content["history"])]
