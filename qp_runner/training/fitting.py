"""Whether a stored state has the form of a run's: a file may be whole and still hold something else."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qp_runner.training.held_tensors import parameters_of


def misfit(expected: Any, found: Any, name: str) -> str:
    """How `found` differs in form from `expected`; empty if it has all its keys, and tensors of the same shapes.

    Numbers and texts may differ, and `found` may have more keys: some come only in the course of training.
    """
    if isinstance(expected, Tensor):
        same = isinstance(found, Tensor) and found.shape == expected.shape
        return "" if same else f"{name} is no tensor of shape {tuple(expected.shape)}"
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return f"{name} has no keys"
        missing = next((f"{name} lacks {key}" for key in expected if key not in found), "")
        return missing or _first(misfit(each, found[key], f"{name}.{key}") for key, each in expected.items())
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return f"{name} has no {len(expected)} elements"
        return _first(misfit(*pair, f"{name}.{place}") for place, pair in enumerate(zip(expected, found, strict=True)))
    return ""


def fixed_shapes(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network's state whose shapes training can't change: all but buffers of modules not torch's."""
    own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for path, module in network.named_modules(remove_duplicate=False):
        if type(module).__module__.startswith("torch."):
            own |= {f"{path}.{name}" if path else name for name, _ in module.named_buffers(recurse=False)}
    return {name: each for name, each in network.state_dict().items() if name in own}


def optimizer_misfit(optimizer: Optimizer, found: Any, name: str) -> str:
    """As `misfit`, for an optimizer without a step so far: what is kept about a parameter must suit its shape."""
    own = optimizer.state_dict()
    if wrong := misfit({"state": {}, "param_groups": own["param_groups"]}, found, name):
        return wrong
    parameters = parameters_of(optimizer)
    for place, kept in found["state"].items():
        if not isinstance(kept, Mapping) or not 0 <= place < len(parameters):
            return f"{name}.state.{place} is of no parameter"
        for key, value in kept.items():
            if isinstance(value, Tensor) and not _broadcasts(value.shape, parameters[place].shape):
                return f"{name}.state.{place}.{key} does not suit a parameter of shape {tuple(parameters[place].shape)}"
    return ""


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    try:
        return tuple(torch.broadcast_shapes(tuple(shape), tuple(to))) == tuple(to)
    except RuntimeError:
        return False


def _first(problems: Any) -> str:
    return next((each for each in problems if each), "")
