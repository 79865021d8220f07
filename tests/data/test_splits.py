import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qp_runner.data.splits import held_out, stratified


@given(
    counts=st.lists(st.integers(10, 60), min_size=1, max_size=5),
    shares=st.lists(st.floats(0.0, 0.45), min_size=1, max_size=2),
)
@settings(max_examples=50)
def test_every_position_falls_into_one_part_and_every_class_has_its_share(counts, shares):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    parts = stratified(labels, shares)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    for share, part in zip(shares, parts, strict=False):
        expected = [round(share * count) for count in counts]
        assert labels[part].bincount(minlength=len(counts)).tolist() == expected


def test_a_fraction_is_of_all_samples_after_other_parts_too():
    labels = torch.arange(10).repeat(100)
    assert [len(part) for part in stratified(labels, [0.5, 0.1])] == [500, 100, 400]


def test_a_number_is_dealt_out_evenly():
    labels = torch.arange(3).repeat(20)
    part, rest = stratified(labels, [8])
    assert labels[part].bincount().tolist() == [3, 3, 2]
    assert len(rest) == 52


def test_a_split_is_fixed_and_does_not_use_the_global_generator():
    labels = torch.arange(10).repeat(30)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = stratified(labels, [0.3])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, stratified(labels, [0.3]), strict=True))


def test_a_class_that_is_too_small_is_named():
    with pytest.raises(ValueError, match="class 1 has 2 samples"):
        stratified(torch.tensor([0] * 20 + [1] * 2), [12])


def test_positions_held_out_are_fixed_and_sorted():
    kept, taken = held_out(20, 3)
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(20))
    assert (len(taken), kept.tolist()) == (3, sorted(kept.tolist()))
    assert torch.equal(taken, held_out(20, 3)[1])
