"""What every task refuses: data of another task, networks that do not fit the data."""

from typing import Any

from torch import Tensor, nn

from qp_runner.errors import ConfigError
from qp_runner.tasks.base import evaluating


def check_data(data: object, kind: type, *, task: str, such_as: str) -> None:
    """Raises ConfigError for data of another type than `kind`; `such_as` names choices of `data=`."""
    if not isinstance(data, kind):
        raise ConfigError("data", type(data).__name__, f"{task} takes {kind.__name__}: data={such_as}")


def outcome(name: str, network: nn.Module, given: object) -> Any:
    """What a network returns for an input in evaluation mode; ConfigError, with its name, if it fails."""
    try:
        with evaluating({name: network}):
            return network(given)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("model", name, f"does not fit an input of {described(given)}: {reason}") from error


def check_shape(name: str, network: nn.Module, given: Tensor, wanted: tuple[int, ...]) -> None:
    """Raises ConfigError unless a network returns a tensor of this shape for an input; −1 stands for any size."""
    made = outcome(name, network, given)
    sizes = made.shape if isinstance(made, Tensor) else ()
    if len(sizes) != len(wanted) or any(size != want for size, want in zip(sizes, wanted, strict=True) if want >= 0):
        allowed = f"has to return {wanted} for an input of {described(given)}; it returns {described(made)}"
        raise ConfigError("model", name, allowed)


def described(value: object) -> str:
    """A tensor's shape, the shapes of a list, or the type of anything else."""
    if isinstance(value, list):
        return f"[{', '.join(map(described, value))}]"
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
