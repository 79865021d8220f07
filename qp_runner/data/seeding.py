"""Random numbers for one position in training, independent of what happened before."""

import hashlib

import torch


def generator(*place: int | str) -> torch.Generator:
    """A generator whose numbers depend on `place` only, such as `(seed, "order", epoch)`.

    Hashing avoids collisions: torch's CPU generator uses only the lowest 32 bits of its seed, so sums or shifts of
    seed and epoch would collide. On the CPU, so that all devices get the same numbers.
    """
    digest = hashlib.blake2b(repr(place).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
