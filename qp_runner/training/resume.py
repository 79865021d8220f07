"""A run's whole state as plain data, and back: everything that the steps to come depend on."""

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from qp_runner.training.trainer import Trainer


def capture(trainer: "Trainer") -> dict[str, Any]:
    """Networks, masks and scales, optimizers, learning-rate schedules, what the task keeps, generators, history.

    Masks and scales are left out while no event has fired: they are then what they are in any new run. Long lists of
    numbers are tensors or one text: one by one they take longer to store than everything else.
    """
    task, compressor = trainer.task, trainer.compressor
    return {
        "networks": {name: network.state_dict() for name, network in task.networks().items()},
        "compressor": compressor.state_dict() if compressor is not None and trainer.events_fired else None,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        "lr_schedules": [schedule.state_dict() for schedule in trainer.lr.schedules],
        "task": dict(task.state_dict()),
        "random": random_state(trainer.settings.device),
        "history": json.dumps(trainer.history),
    }


def restore(trainer: "Trainer", content: dict[str, Any]) -> None:
    """Puts back what `capture` took, the generators excepted; tensors that exist are written in place."""
    task, compressor = trainer.task, trainer.compressor
    for name, network in task.networks().items():
        network.load_state_dict(content["networks"][name])
    if compressor is not None and content["compressor"] is not None:
        compressor.load_state_dict(content["compressor"])
    for name, optimizer in trainer.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # captured steps read it on the device
                group["lr"] = group["lr"].to(trainer.settings.device)
    for schedule, state in zip(trainer.lr.schedules, content["lr_schedules"], strict=True):
        schedule.load_state_dict(state)
    task.load_state_dict(content["task"])


def recorded(content: dict[str, Any]) -> list[tuple[int, dict[str, float]]]:
    """The history that `capture` took: every number exact, `nan` and infinities included."""
    return [(int(step), values) for step, values in json.loads(content["history"])]


def random_state(device: torch.device) -> dict[str, Any]:
    """The global generators: torch's on the CPU and on the run's device, Python's, NumPy's legacy one."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - third-party code may draw from it
    name, keys, place, has_gauss, cached = legacy
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(place), int(has_gauss), float(cached)],
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts back what `random_state` took."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
