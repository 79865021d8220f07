import pytest
import torch

from qp_runner.errors import ConfigError
from qp_runner.tasks.image_pool import FILL, PASS, SWAP, ImagePool


def numbered(start, count):
    return torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()


def obvious(pool, numbers, draws):
    """The pool as a list, image by image."""
    handed_on = []
    for number, (place, action) in zip(numbers, draws.tolist(), strict=True):
        if action == FILL:
            assert len(pool) == place
            pool.append(number)
        elif action == SWAP:
            pool[place], number = number, pool[place]
        handed_on.append(number)
    return handed_on


@pytest.mark.parametrize("batch", [1, 3])
def test_it_does_what_a_list_would(batch):
    pool, kept = ImagePool("a", capacity=5, size=2, seed=0), []
    for epoch in range(3):
        draws = pool.draws(epoch, samples=12)
        for start in range(0, 12, batch):
            part, first = draws[start : start + batch], 12 * epoch + start
            made = pool.exchange(numbered(first, batch), part)
            expected = obvious(kept, [float(first + i) for i in range(batch)], part)
            assert made[:, 0, 0, 0].tolist() == expected
    assert pool.images[:, 0, 0, 0].tolist() == kept


def test_it_fills_first_and_then_swaps_every_second_image():
    pool = ImagePool("a", capacity=50, size=2, seed=0)
    places, actions = torch.cat([pool.draws(epoch, samples=40) for epoch in range(100)]).T
    assert places[:50].tolist() == list(range(50))
    assert set(actions[:50].tolist()) == {FILL}
    assert set(actions[50:].tolist()) == {PASS, SWAP}
    assert (actions[50:] == SWAP).float().mean().item() == pytest.approx(0.5, abs=0.03)
    swapped = places[50:][actions[50:] == SWAP]
    assert len(swapped.unique()) == 50


def test_draws_are_a_function_of_seed_epoch_and_name():
    def draws(name="a", seed=0, epoch=9):
        return ImagePool(name, capacity=5, size=2, seed=seed).draws(epoch, samples=30)

    assert torch.equal(draws(), draws())
    for other in (draws(name="b"), draws(seed=1), draws(epoch=8)):
        assert not torch.equal(draws(), other)


def test_without_room_images_pass():
    pool = ImagePool("a", capacity=0, size=2, seed=0)
    images = numbered(0, 3)
    assert torch.equal(pool.exchange(images, pool.draws(0, samples=3)), images)


@pytest.mark.parametrize("capacity", [-1, 1.5, True, "many"])
def test_an_impossible_capacity_is_refused(capacity):
    with pytest.raises(ConfigError, match=r"task\.factory\.pool"):
        ImagePool("a", capacity=capacity, size=2, seed=0)
