"""What every task refuses: data of another task, networks that do not fit the data."""

from typing import Any

from torch import Tensor, nn

from qp_runner.errors import ConfigError
from qp_runner.tasks.base import evaluating


def check_data(data: object, kind: type, *, task: str, such_as: str) -> None:
    """Raises ConfigError for data of another type than `kind`; `such_as` names choices of `data=`."""
    if not isinstance(data, kind):
        raise ConfigError("data", type(data).__name__, f"{task} takes {kind.__name__}: data={such_as}")


def outcome(name: str, network: nn.Module, images: Tensor | list[Tensor]) -> Any:
    """What a network returns for images in evaluation mode; ConfigError, with its name, if it fails."""
    try:
        with evaluating({name: network}):
            return network(images)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError("model", name, f"does not fit images of {_size(images)}: {reason}") from error


def check_shape(name: str, network: nn.Module, images: Tensor, wanted: tuple[int, ...]) -> None:
    """Raises ConfigError unless a network returns a tensor of this shape for images; −1 stands for any size."""
    made = outcome(name, network, images)
    sizes = made.shape if isinstance(made, Tensor) else ()
    if len(sizes) != len(wanted) or any(size != want for size, want in zip(sizes, wanted, strict=True) if want >= 0):
        found = tuple(sizes) if isinstance(made, Tensor) else type(made).__name__
        raise ConfigError("model", name, f"has to return {wanted} for images of {_size(images)}; it returns {found}")


def _size(images: Tensor | list[Tensor]) -> str:
    return "×".join(map(str, images[0].shape))
