"""What networks are called with, as plain data: the same calls can be made again without task and data.

Of tensors only shape and dtype are kept, never a sample itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.isolation import undisturbed
from qp_runner.tasks.base import evaluating


@dataclass(frozen=True)
class NetworkCall:
    """A call of a network.

    Attributes:
        network: its name.
        args, kwargs: plain data (see `described`).
        evaluates: whether the task puts the network into evaluation mode for it.
    """

    network: str
    args: Any
    kwargs: Any
    evaluates: bool = False


class UnknownFormError(ValueError):
    """An argument that plain data can't describe."""


def calls_of(networks: Mapping[str, nn.Module], run: Callable[[], None]) -> list[NetworkCall] | None:
    """The calls of networks that `run` makes, in order; None if they can't be described. Changes nothing."""
    calls: list[NetworkCall] = []
    with suppress(UnknownFormError), undisturbed(networks.values()), _noting(networks, calls):
        run()
        return calls
    return None


@contextmanager
def _noting(networks: Mapping[str, nn.Module], calls: list[NetworkCall]) -> Iterator[None]:
    handles = []
    for name, network in networks.items():

        def note(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            calls.append(NetworkCall(name, described(args), described(kwargs), evaluates=not module.training))
            module.training = False

        network.training = True  # of the network alone: whoever evaluates it turns this off
        handles.append(network.register_forward_pre_hook(note, prepend=True, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def described(value: Any) -> Any:
    """Arguments as plain data: tensors by shape and dtype, in lists, tuples and dictionaries.

    Raises UnknownFormError for anything else but numbers, texts and None.
    """
    if isinstance(value, Tensor):
        return {"tensor": [*value.shape], "dtype": str(value.dtype).removeprefix("torch.")}
    if type(value) in (list, tuple):
        return {type(value).__name__: [described(each) for each in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: described(each) for key, each in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise UnknownFormError(f"a network is called with a {type(value).__name__}")


def example(description: Any, device: torch.device | None = None) -> Any:
    """Arguments of a described form. Tensors hold zeros, those of bool ones."""
    [kind] = description.keys() - {"dtype"}
    inside = description[kind]
    if kind == "tensor":
        dtype = getattr(torch, description["dtype"])
        return torch.full(inside, dtype == torch.bool, dtype=dtype, device=device)
    if kind in ("list", "tuple"):
        made = [example(each, device) for each in inside]
        return tuple(made) if kind == "tuple" else made
    return {key: example(each, device) for key, each in inside.items()} if kind == "dict" else inside


def repeat(networks: Mapping[str, nn.Module], calls: Sequence[NetworkCall]) -> None:
    """Makes the calls again, on examples."""
    for each in calls:
        network = networks[each.network]
        device = next((value.device for value in network.parameters()), None)
        with evaluating({each.network: network}) if each.evaluates else nullcontext():
            network(*example(each.args, device), **example(each.kwargs, device))
