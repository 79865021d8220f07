"""Fixed splits: by class, or at random."""

from collections.abc import Sequence

import torch
from torch import Tensor

SPLIT_SEED = 20211020  # for all data sets: splits do not depend on a run's seed


def stratified(labels: Tensor, shares: Sequence[float | int]) -> list[Tensor]:
    """Splits positions so that each part has its share of every class.

    Args:
        labels: classes [n] (int64).
        shares: for each part but the last, a fraction of all samples or, as an int, a number of samples, which are
            distributed evenly over the classes; the last part takes the rest.

    Returns:
        Sorted positions, one tensor for each share and one for the rest; together every position exactly once.

    Raises:
        ValueError: a class has fewer samples than its parts need.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    classes = labels.unique().tolist()
    parts: list[list[Tensor]] = [[] for _ in range(len(shares) + 1)]
    for number, label in enumerate(classes):
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        counts = [_count(share, members=len(members), number=number, classes=len(classes)) for share in shares]
        if sum(counts) > len(members):
            raise ValueError(f"class {label} has {len(members)} samples, too few for parts of {counts}")
        for part, piece in zip(parts, members.split([*counts, len(members) - sum(counts)]), strict=True):
            part.append(piece)
    return [torch.cat(part).sort().values for part in parts]


def held_out(samples: int, count: int) -> tuple[Tensor, Tensor]:
    """Sorted positions to keep and to hold out, `count` of them drawn at random; the same ones at every call."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return order[count:].sort().values, order[:count].sort().values


def _count(share: float | int, *, members: int, number: int, classes: int) -> int:
    """The samples that a share takes of the class with this number, which has `members`."""
    if isinstance(share, int):
        return share // classes + (number < share % classes)
    return round(share * members)
