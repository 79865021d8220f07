"""Splits that a set does not have, held out of its training pictures."""

from collections.abc import Mapping, Sequence

import torch

from qp_runner.data.picture_sources import Pictures
from qp_runner.data.splits import stratified
from qp_runner.errors import ConfigError


def with_held_out(
    found: Mapping[str, Pictures], shares: Mapping[str, float], classes: Sequence[str]
) -> dict[str, Pictures]:
    """Splits with those of `shares` held out of the training pictures, stratified. Raises ConfigError."""
    for split, share in shares.items():
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < 1:
            raise ConfigError(f"data.{split}_share", share, "above 0 and below 1")
    if not shares:
        return dict(found)
    train = found["train"]
    counts = torch.bincount(train.labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        taken = {split: round(share * count) for split, share in shares.items()}
        if sum(taken.values()) >= count or not min(taken.values()):
            asked = ", ".join(f"{split} {share:g}" for split, share in shares.items())
            key = f"data.{next(iter(shares))}_share"
            raise ConfigError(key, asked, f"leaves a split without images of class {name}, which has {count}")
    *held, kept = stratified(train.labels, [float(share) for share in shares.values()])
    return {**found, "train": train.take(kept)} | {
        split: train.take(index) for split, index in zip(shares, held, strict=True)
    }
