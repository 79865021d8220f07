import torch

from qp_runner.training import set_numerics


def test_the_threads_of_one_job_are_not_those_of_the_next() -> None:
    set_numerics(deterministic=True, threads=None)
    chosen_by_torch = torch.get_num_threads()
    set_numerics(deterministic=True, threads=chosen_by_torch + 1)
    assert torch.get_num_threads() == chosen_by_torch + 1
    set_numerics(deterministic=True, threads=None)
    assert torch.get_num_threads() == chosen_by_torch
