"""A digest of what a run starts from but its configuration does not contain: its data and initial weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qp_runner.tasks import Task


def content_digest(task: Task) -> str:
    """A hexadecimal digest of a task's data and of its networks' weights and buffers.

    These may differ between runs of the same configuration, since image folders and weight files can change. Call it
    before training, while the task is on the CPU: otherwise everything is copied there.
    """
    found = hashlib.sha256()
    _take(found, getattr(task, "data", None))
    _take(found, {name: network.state_dict() for name, network in task.networks().items()})
    return found.hexdigest()


def _take(found: Any, value: object) -> None:
    """Adds a value: all elements of a tensor; name, size and time of a file; what a container or data class holds.

    Any other object, such as a generator or a transform, counts with its type alone.
    """
    found.update(type(value).__name__.encode() + b"\0")
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.flatten().view(torch.uint8).numpy())
    elif isinstance(value, Path):
        status = value.stat()
        found.update(f"{value.name} {status.st_size} {status.st_mtime_ns}".encode())
    elif isinstance(value, str | int | float | bool | None):
        found.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in value:
            _take(found, key)
            _take(found, value[key])
    elif isinstance(value, list | tuple):
        for each in value:
            _take(found, each)
    elif is_dataclass(value):
        for each in fields(value):
            _take(found, getattr(value, each.name))
    found.update(b"\0")
