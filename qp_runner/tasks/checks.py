"""What every task refuses: data of another task, wrong networks, an impossible batch size."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import Tensor

from qp_runner.errors import ConfigError

Made = TypeVar("Made")


def check_data(data: object, kind: type, *, task: str, such_as: str) -> None:
    """Raises ConfigError for data of another type than `kind`; `such_as` names choices of `data=`."""
    if not isinstance(data, kind):
        raise ConfigError("data", type(data).__name__, f"{task} takes {kind.__name__}: data={such_as}")


def check_networks(networks: Iterable[str], needed: Iterable[str], *, task: str) -> None:
    """Raises ConfigError unless the networks have the needed names."""
    found, wanted = list(networks), list(needed)
    if sorted(found) != sorted(wanted):
        count = "one network, named" if len(wanted) == 1 else "networks named"
        raise ConfigError("model.networks", found, f"{task} takes {count} {', '.join(wanted)}")


def check_batch_size(batch_size: int, count: int, *, of: str) -> None:
    """Raises ConfigError for a batch larger than the training set; `of` names its samples."""
    if not 1 <= batch_size <= count:
        raise ConfigError("trainer.batch_size", batch_size, f"from 1 to the {count} training {of}")


def fitting(network: str, given: str, forward: Callable[[], Made]) -> Made:
    """The result of a network's forward pass.

    Args:
        network: its name, for errors.
        given: its input, in words.
        forward: runs the pass.

    Raises:
        ConfigError: the network does not fit the input.
    """
    try:
        return forward()
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("model", network, f"does not fit {given}: {reason}") from error


def described(made: object) -> str:
    """What a network returned, for errors: a tensor's shape, or the type of anything else."""
    return str(tuple(made.shape)) if isinstance(made, Tensor) else type(made).__name__
