"""Running networks for calibration without side effects on training."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from qp_runner.compress.python_state import Snapshot


@contextmanager
def undisturbed(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Eval mode without gradients. Afterwards each module's mode, all buffers and attributes, and torch's global random
    state (CPU and CUDA) are restored, also if the body raised.
    """
    roots = {str(number): network for number, network in enumerate(networks)}
    before = Snapshot(roots)
    modes = [(module, module.training) for network in roots.values() for module in network.modules()]
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            before.put_back()
            for module, mode in modes:
                module.training = mode


@contextmanager
def parameters_kept(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Afterwards Parameters have the contents that they had: a forward pass in training mode may write to them."""
    parameters = {id(each): each for network in networks for each in network.parameters()}
    before = [(each, each.data, each.detach().clone()) for each in parameters.values()]
    try:
        yield
    finally:
        for parameter, data, content in before:
            parameter.data = data
            parameter.data.copy_(content)
