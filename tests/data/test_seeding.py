import itertools

import torch

from qp_runner.data.seeding import generator


def numbers(*place):
    return torch.randint(2**31, (4,), generator=generator(*place)).tolist()


def test_a_place_always_has_the_same_numbers():
    assert numbers(3, "order", 7) == numbers(3, "order", 7)


def test_neighbouring_places_have_different_numbers():
    places = itertools.product(range(20), ["order", "augmentation"], range(20))
    drawn = [tuple(numbers(*place)) for place in places]
    assert len(set(drawn)) == len(drawn)


def test_large_seeds_are_fine():
    assert numbers(2**80, "order", 0) != numbers(2**80 + 2**64, "order", 0)


def test_the_numbers_are_the_same_on_every_machine():
    assert numbers(0, "order", 0) == [2110508522, 811769801, 1926241394, 597141055]
