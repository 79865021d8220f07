"""Mixed images: torchvision's own, drawn by position in training alone."""

from dataclasses import replace

import pytest
import torch

from qp_runner.data import ImageData, Mixing, digits


def mixed(**alphas: float) -> ImageData:
    return replace(digits(), mixing=Mixing(**alphas))


@pytest.mark.parametrize("alphas", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_batches_are_mixed_with_themselves(alphas: dict[str, float]) -> None:
    before = torch.get_rng_state()
    plain = list(digits().epoch(0, batch_size=100, seed=1))
    first, again, later = (list(mixed(**alphas).epoch(epoch, batch_size=100, seed=1)) for epoch in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    shares = set()
    for one, other, own in zip(first, again, plain, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert torch.allclose(one.labels.sum(1), torch.ones(100))
        share = (one.labels * torch.nn.functional.one_hot(own.labels, 10)).sum(1).min().item()
        assert 0 <= share <= 1
        shares.add(round(share, 4))
        if alphas == {"mixup": 0.4}:
            partner = own.images.roll(1, 0)
            assert torch.allclose(one.images, share * own.images + (1 - share) * partner, atol=1e-4)
        elif alphas == {"cutmix": 1.0}:
            assert ((one.images == own.images) | (one.images == own.images.roll(1, 0))).all()
    assert len(shares) > 1
    assert not torch.equal(first[0].labels, later[0].labels)


def test_calibration_and_evaluation_are_not_mixed() -> None:
    data = mixed(mixup=1.0)
    for batch in (next(data.calibration(samples=4, batch_size=4, seed=0)), next(data.evaluation("val", batch_size=4))):
        assert batch.labels.dtype == torch.int64
