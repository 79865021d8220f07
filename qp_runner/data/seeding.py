"""Random numbers for one position in training, independent of what happened before."""

import hashlib
from types import TracebackType

import torch


def generator(*place: int | str) -> torch.Generator:
    """A generator whose numbers depend on `place` only, such as `(seed, "order", epoch)`.

    On the CPU, so that all devices get the same numbers.
    """
    return torch.Generator().manual_seed(number(*place))


def number(*place: int | str) -> int:
    """A number of 32 bits that depends on `place` only.

    Hashing avoids collisions: torch's CPU generator uses only the lowest 32 bits of its seed, so sums or shifts of
    seed and epoch would collide.
    """
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=4).digest(), "little")


class Seeded:
    """Inside, torch's global generator of the CPU is in a state that `place` decides; afterwards it is as before.

    For the random transforms of libraries, which take no generator.
    """

    def __init__(self, *place: int | str) -> None:
        self._seed = number(*place)

    def __enter__(self) -> None:
        self._before = torch.get_rng_state()
        torch.default_generator.manual_seed(self._seed)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        torch.set_rng_state(self._before)
