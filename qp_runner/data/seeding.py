"""Random numbers that belong to one place in training, whatever happened before it."""

import hashlib

import torch


def generator(*place: int | str) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of `place` alone, such as `(seed, "order", epoch)`.

    Hashing keeps neighbouring places apart: torch's CPU generator uses the lowest 32 bits of its seed only, so sums and
    shifts of seed and epoch would collide. On the CPU, so that every device sees the same numbers.
    """
    digest = hashlib.blake2b(repr(place).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
