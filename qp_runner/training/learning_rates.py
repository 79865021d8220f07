"""The learning rates of a run: its optimizers' schedules, warm-up, and what is written to the optimizers."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_map

from qp_runner.errors import ConfigError, first_line
from qp_runner.training.optim import own_settings

SCHEDULE = "trainer.lr_schedule.factory"

MakeSchedule = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True)
class LearningRate:
    """How to make an optimizer's learning-rate schedule, and whether it steps once an epoch or once a step."""

    make: MakeSchedule
    interval: Literal["epoch", "step"] = "epoch"


class LearningRates:
    """The learning-rate schedules of a run's optimizers, all made alike; without `kind` the rates are constant.

    In the first `warmup` steps the rates that the schedules give are multiplied by 1/warmup, 2/warmup, ..., 1.

    The schedules compute with plain numbers, so the rates are the same for all executors. Captured steps read theirs on
    the device, where they are written to.

    Raises ConfigError for a schedule whose steps need a metric, for one that gives all groups of an optimizer one rate
    where they have several, and, in `after`, for one that changes what captured steps hold as a number.

    Attributes:
        last: the rate that the first optimizer's first parameter group had in the last step; before any, the first.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], kind: LearningRate | None, *, warmup: int = 0) -> None:
        self._optimizers = list(optimizers.values())
        self._interval = kind.interval if kind else None
        self._rates = [float(group["lr"]) for group in self._groups()]  # as the schedules give them
        with self._plain():
            self._schedules = [_schedule(kind, optimizer) for optimizer in self._optimizers] if kind else []
        self._warmup, self._steps = warmup, 0
        self.last = self.current
        self._write()

    @property
    def current(self) -> float:
        """The rate of the first optimizer's first parameter group in the coming step."""
        return self._rates[0] * self._factor

    def after(self, interval: Literal["epoch", "step"]) -> None:
        """Advances the schedules if they step at the end of this interval."""
        warming = self._steps < self._warmup
        if interval == "step":
            self.last = self.current
            self._steps += 1
        due = interval == self._interval
        if due:
            held = self._captured()
            with self._plain():
                for schedule in self._schedules:
                    _advance(schedule)
            now = self._captured()
            if changed := next((key[0] for key in now if now[key] != held[key]), None):
                cycles = "cycle_momentum=false or " if changed in ("momentum", "betas") else ""
                allowed = f"changes {changed}, which a captured step can't follow: {cycles}trainer.executor=eager"
                raise ConfigError(SCHEDULE, type(self._schedules[0]).__name__, allowed)
        if due or warming:
            self._write()

    @property
    def _factor(self) -> float:
        """What the schedules' rates are multiplied by in the coming step."""
        return min(1.0, (self._steps + 1) / self._warmup) if self._warmup else 1.0

    @contextmanager
    def _plain(self) -> Iterator[None]:
        """Inside, the optimizers' rates are the schedules' numbers; what they are at its end is kept."""
        groups = self._groups()
        held = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            self._rates = [float(group["lr"]) for group in groups]
            for group, each in zip(groups, held, strict=True):
                group["lr"] = each

    def _write(self) -> None:
        """Sets the optimizers' rates; those that captured steps read on the device, in place."""
        for group, rate in zip(self._groups(), self._rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * self._factor)
            else:
                group["lr"] = rate * self._factor

    def _captured(self) -> dict[tuple[str, int, int], Any]:
        """What captured steps took from the optimizers as numbers: by setting, optimizer and group."""
        return {
            (name, place, number): value
            for place, optimizer in enumerate(self._optimizers)
            for number, group in enumerate(optimizer.param_groups)
            for name, value in own_settings(group, optimizer).items()
            if isinstance(group["lr"], Tensor) and not isinstance(value, Tensor)
        }

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The schedules' states and their rates as plain data, how many steps were taken, and the last one's rate."""
        schedules = [tree_map(_plain, schedule.state_dict()) for schedule in self._schedules]
        return {"schedules": schedules, "rates": list(self._rates), "steps": self._steps, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, once the optimizers are restored."""
        self._rates, self._steps, self.last = list(state["rates"]), state["steps"], state["last"]
        for schedule, each in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(each)


def _schedule(kind: LearningRate, optimizer: Optimizer) -> LRScheduler:
    rates = {float(group["lr"]) for group in optimizer.param_groups}
    schedule = kind.make(optimizer)
    name = type(schedule).__name__
    try:
        inspect.signature(schedule.step).bind()
    except (AttributeError, TypeError) as error:
        allowed = "a learning-rate schedule whose step() needs no argument; one that follows a metric does"
        raise ConfigError(SCHEDULE, name, allowed) from error
    if len(rates) > 1 and len({group.get("initial_lr", group["lr"]) for group in optimizer.param_groups}) == 1:
        allowed = (
            f"gives all parameters one rate, but the task has groups with {_listed(rates)}: a list of one for each"
        )
        raise ConfigError(SCHEDULE, name, allowed)
    return schedule


def _advance(schedule: LRScheduler) -> None:
    try:
        with warnings.catch_warnings():
            # torch warns that the optimizer has not stepped; a step that another job captured does so without a call.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            schedule.step()
    except ValueError as error:  # OneCycleLR beyond its total_steps
        raise ConfigError(SCHEDULE, type(schedule).__name__, first_line(error)) from error


def _listed(rates: Iterable[float]) -> str:
    return " and ".join(f"{each:g}" for each in sorted(rates, reverse=True))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value  # a schedule of the user's may compute with NumPy
