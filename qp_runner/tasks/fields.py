"""Parts of batches and outputs by name or position."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from qp_runner.errors import ConfigError

Key = str | int


class Pair(NamedTuple):
    """What a network takes, by position or by argument, and what it is to return."""

    inputs: Any
    target: Tensor


class Fields:
    """What of a batch goes where.

    Args:
        inputs: keys of what the network takes, in order; or the keys by argument; None for the first part.
        target: the key of what it is to return; None for the second part.
        output: the key of what counts of that which it returns; None for all of it.
    """

    def __init__(
        self, inputs: Sequence[Key] | Mapping[str, Key] | None, target: Key | None, output: Key | None
    ) -> None:
        self.inputs: Any = [0] if inputs is None else inputs
        self.target: Key = 1 if target is None else target
        self.output = output

    def pair(self, batch: Any) -> Pair:
        """The parts of a batch or of an item. Raises ConfigError for a missing one."""
        if isinstance(self.inputs, Mapping):
            taken: Any = {name: part(batch, key, "task.factory.inputs") for name, key in self.inputs.items()}
        else:
            taken = tuple(part(batch, key, "task.factory.inputs") for key in self.inputs)
        return Pair(taken, part(batch, self.target, "task.factory.target"))

    def outcome(self, network: Any, inputs: Any) -> Tensor:
        """What counts of that which a network returns. Raises ConfigError if it is no tensor."""
        made = network(**inputs) if isinstance(inputs, dict) else network(*inputs)
        found = made if self.output is None else part(made, self.output, "task.factory.output")
        if isinstance(found, Tensor):
            return found
        keys = f"one of {', '.join(map(str, found))}" if isinstance(found, Mapping) else "the key of a tensor"
        raise ConfigError("task.factory.output", self.output, f"the network returns {type(found).__name__}: {keys}")


def part(whole: Any, key: Key, name: str) -> Any:
    """A part of a tuple, a mapping, or an object with attributes. Raises ConfigError, naming the configuration key."""
    if isinstance(whole, Mapping):
        if key in whole:
            return whole[key]
        raise ConfigError(name, key, f"one of {', '.join(map(str, whole))}")
    if isinstance(key, str):
        if hasattr(whole, key):
            return getattr(whole, key)
        raise ConfigError(name, key, f"a position: these are not named ({type(whole).__name__})")
    if isinstance(whole, list | tuple) and -len(whole) <= key < len(whole):
        return whole[key]
    size = len(whole) if isinstance(whole, list | tuple) else 0
    raise ConfigError(name, key, f"a position in what has {size} parts ({type(whole).__name__})")
