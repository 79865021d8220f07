"""A digest of what a run starts from but its configuration does not contain: its data, initial weights and objects."""

import copy
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from qp_runner.tasks import Task
from qp_runner.training.code import source_modules
from qp_runner.training.digester import Digester, HasFingerprint, NotDigestibleError, Tensors
from qp_runner.training.seeding import generator_states, seed_everything, set_generator_states

ITEMS, BYTES = 100_000, 1 << 30
"""Of a data set whose items are read to digest them: about what an epoch reads."""


@dataclass(frozen=True)
class Content:
    """What a run starts from.

    Attributes:
        digest: equal for runs that start from the same; empty if there is a problem.
        problem: what can't be digested, and why; empty if all can. Such a run must share nothing.
    """

    digest: str = ""
    problem: str = ""


def content_of(task: Task, tensors: Tensors | None = None) -> Content:
    """The content of all that a task holds: data, networks, and any other attribute.

    It may differ between runs of the same configuration, since image folders and weight files can change. Call it
    before training, while the task is on the CPU: otherwise everything is copied there.

    Args:
        task: as it was built.
        tensors: known digests of large tensors, for several tasks with the same data.
    """
    digester = Digester(tensors, _take_data_set)
    try:
        digester.add_type(type(task))
        digester.take("networks", dict(task.networks()))
        for name, value in sorted(vars(task).items()):
            digester.take(name, value)
        for name in sorted({each for module in digester.modules for each in source_modules(module)}):
            for key, value in sorted(vars(sys.modules.get(name, object)).items()):
                if isinstance(value, Tensor | np.ndarray | Dataset):  # a function or method may use them
                    digester.take(f"{name}.{key}", value)
    except NotDigestibleError as error:
        return Content(problem=str(error))
    return Content(digester.hexdigest())


def _take_data_set(digester: Digester, value: object) -> bool:
    """Takes a data set that is not torch's own: by its `fingerprint()`, else by its attributes and its items.

    Items are read from a copy, with the global random generators in a fixed state; if there are more than `ITEMS`, or
    they have more than `BYTES`, the attributes must name a file for each.
    """
    if not isinstance(value, Dataset) or type(value).__module__.startswith("torch.utils.data."):
        return False
    if isinstance(value, HasFingerprint):
        digester.fingerprint(value)
        return True
    wanted = "give its class a method fingerprint() -> str"
    if isinstance(value, IterableDataset) or not hasattr(value, "__len__"):
        raise digester.refusal(f"is a data set without a length: {wanted}")
    files, walk, digester.files.walk_folders = digester.files.named, digester.files.walk_folders, False
    digester.attributes(value)
    digester.files.walk_folders = walk
    items = len(value)
    if not (items <= ITEMS and _take_items(digester, value, items)) and digester.files.named - files < items:
        raise digester.refusal(f"is a data set of more than {ITEMS} items or {BYTES >> 20} MiB: {wanted}")
    return True


def _take_items(digester: Digester, value: Dataset[object], items: int) -> bool:
    """Takes all items of a data set; returns False as soon as they are too large."""
    states = generator_states(torch.device("cpu"))
    try:
        reader = copy.deepcopy(value)  # reading may change it: open a file, fill a cache, draw random numbers
        seed_everything(0)
        left = BYTES
        for number in range(items):
            left -= digester.take_apart(str(number), reader[number])
            if left < 0:
                return False
    finally:
        set_generator_states(states, torch.device("cpu"))
    return True
