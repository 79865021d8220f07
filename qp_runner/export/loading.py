"""A packed file's weights, masks and scales into a network of the user's."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from qp_runner.compress.bake import Output, compress_outputs, unparametrize
from qp_runner.export.coding import Values
from qp_runner.export.container import PackedError
from qp_runner.export.unpacked import Unpacked, UnpackedResult, read_packed

MOST_CALLS = 1 << 16  # of one name; more is no network


def load_packed(path: Path | str, network: nn.Module, *, name: str | None = None) -> nn.Module:
    """Makes a plain network the one of a packed file: its values, and what is done with results. Bit for bit.

    Args:
        path: of the file.
        network: built as the exported one was; changed in place.
        name: which of the file's networks; needed where it has several.

    Returns:
        The network, in evaluation mode.

    Raises:
        PackedError: a damaged or another kind of file, a network of other names, shapes or types.
    """
    networks = read_packed(Path(path))
    if name is None and len(networks) == 1:
        [name] = networks
    if name not in networks:
        raise PackedError(f"{path}: name={name}: one of {', '.join(sorted(networks))}")
    found = networks[name]
    try:
        plain = set(network.state_dict())
        _compress(found, network)  # before anything else changes: a parametrized layer's calls have names
        own = {name: each for name, each in network.state_dict().items() if name not in plain}
        for each in found.weights:
            module = network.get_submodule(each.rpartition(".")[0])
            if is_parametrized(module):
                unparametrize(module)
        _check(found, network)
        network.load_state_dict(own | _state(found), strict=True)
    except (AttributeError, IndexError, KeyError, RuntimeError, ValueError) as error:
        raise PackedError(" ".join(f"{path} does not fit the network: {error}".split())) from error
    return network.eval()


def _check(found: Unpacked, network: nn.Module) -> None:
    """ValueError for other shapes or types. Before decoding: a damaged file could ask for any amount of memory."""
    state = network.state_dict()
    entries = {name: each.entry for name, each in found.weights.items()} | {
        name: entry for name, (entry, _) in found.tensors.items()
    }
    for name, entry in entries.items():
        if name not in state:
            raise ValueError(f"it has no {name}")
        here = (list(state[name].shape), str(state[name].dtype).removeprefix("torch."))
        if here != (entry.shape, entry.dtype):
            raise ValueError(f"{name} is {entry.dtype} {entry.shape} in the file, {here[1]} {here[0]} in the network")


def _state(found: Unpacked) -> dict[str, Tensor]:
    state = {name: _tensor(each.value(), each.entry.dtype) for name, each in found.weights.items()}
    state |= {name: _tensor(values, entry.dtype) for name, (entry, values) in found.tensors.items()}
    return state | {name: state[first] for name, first in found.aliases.items() if first in state}


def _tensor(values: Values, dtype: str) -> Tensor:
    """A tensor of a type, from values in it, in a wider one, or from its bits as uint16."""
    tensor = torch.from_numpy(np.array(values))
    wanted: torch.dtype = getattr(torch, dtype)
    return tensor.view(wanted) if tensor.dtype == torch.uint16 else tensor.to(wanted)


def _compress(found: Unpacked, network: nn.Module) -> None:
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    outputs, calls = dict[str, Output](), dict[str, list[Output | None]]()
    for each in found.results:
        entry = each.entry
        if not entry.count:
            outputs[entry.name] = _output(each, device)
        elif 0 <= entry.number < entry.count <= MOST_CALLS:
            calls.setdefault(entry.name, [None] * entry.count)[entry.number] = _output(each, device)
        else:
            raise ValueError(f"call {entry.number} of {entry.count} of {entry.name}")
    compress_outputs(network, outputs, calls)


def _output(result: UnpackedResult, device: torch.device) -> Output:
    entry = result.entry
    mask = None if result.mask is None else torch.from_numpy(result.mask.astype(np.float32)).to(device)
    scale = None if entry.scale is None else torch.tensor(entry.scale, dtype=torch.float32, device=device)
    return Output(mask, scale, entry.bits, entry.axis)
