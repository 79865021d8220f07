"""Fixed, stratified splits."""

from collections.abc import Sequence

import torch
from torch import Tensor

SPLIT_SEED = 20211020  # one constant for all data sets: a split never depends on a run's seed


def stratified(labels: Tensor, shares: Sequence[float | int]) -> list[Tensor]:
    """Splits positions so that each part has its share of every class.

    Args:
        labels: classes [n] (int64).
        shares: for each part but the last, a fraction of the samples or, as an int, a number of samples that is dealt
            out evenly over the classes; the last part takes what is left.

    Returns:
        Sorted positions, one tensor for each share and one for the rest.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    classes = labels.unique().tolist()
    parts: list[list[Tensor]] = [[] for _ in range(len(shares) + 1)]
    for number, label in enumerate(classes):
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        for part, share in zip(parts, shares, strict=False):
            count = _dealt(share, number, len(classes)) if isinstance(share, int) else round(share * len(members))
            part.append(members[:count])
            members = members[count:]
        parts[-1].append(members)
    return [torch.cat(part).sort().values for part in parts]


def _dealt(total: int, number: int, classes: int) -> int:
    """How many of `total` fall to the class with this number."""
    return total // classes + (number < total % classes)
