"""What a compressed network consists of: codes and scales, other parameters, buffers, and what is done with results.

Both formats are written from this. It holds everything in a file's terms: names of the state_dict, tensors on the CPU.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qp_runner.compress import Compressor
from qp_runner.compress.bake import MASK, RESULTS, SCALE, Output
from qp_runner.compress.fake_quantize import widened
from qp_runner.compress.places import CallPlace, Places
from qp_runner.compress.sites import WeightSite
from qp_runner.schedule import FLOAT_BITS


@dataclass(frozen=True)
class Weight:
    """A weight that is a site.

    Attributes:
        name: in the state_dict.
        value: what the network computes with.
        bits: of its codes; 32 while it is not quantized, then without codes and scale.
        codes: whole numbers (int32), of the value's shape. `codes · spread scale` is the value, bit for bit.
        scale: float32 [scales], one for each output channel.
        channel_axis: the dimension of the value that runs over output channels (those of one group, if transposed).
        groups: 1, but for transposed grouped convolutions, whose scales are ordered by group, then by channel.
    """

    name: str
    value: Tensor
    bits: int
    codes: Tensor | None
    scale: Tensor | None
    channel_axis: int
    groups: int


@dataclass(frozen=True)
class Contents:
    """All of a network, on the CPU.

    Attributes:
        weights: the weights that are sites.
        parameters: all others.
        buffers: those of the state_dict.
        aliases: second and later names of tensors that have several, each with the first one.
        outputs: what is done with a module's output, by path.
        calls: what is done with the results of calls.
    """

    weights: list[Weight]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    aliases: dict[str, str]
    outputs: dict[str, Output]
    calls: dict[CallPlace, Output]

    def quantized(self) -> list[Weight]:
        """The weights that have codes."""
        return [each for each in self.weights if each.codes is not None]


@torch.no_grad()
def contents(compressor: Compressor, network: nn.Module) -> Contents:
    """What one of a compressor's networks consists of now.

    Raises:
        ValueError: its state_dict holds something that is no tensor.
    """
    places, baked = compressor.places(network), compressor.bake(network)
    latents = compressor.latents()
    state, aliases = _distinct(baked, left_out=_names_of_sites(places), preferred=places.weights.keys())
    weights = [_weight(name, site, latents[site]) for name, site in places.weights.items()]
    parameters = {name: each for name, each in state.items() if isinstance(each, nn.Parameter)}
    return Contents(
        weights=weights,
        parameters={name: _plain(each) for name, each in parameters.items() if name not in places.weights},
        buffers={name: _plain(each) for name, each in state.items() if name not in parameters},
        aliases=aliases,
        outputs={path: _cpu(Output.of(site)) for path, site in places.outputs.items() if _active(site)},
        calls={place: _cpu(Output.of(site)) for place, site in places.calls.items() if _active(site)},
    )


def spread(scale: Tensor, *, shape: torch.Size, channel_axis: int, groups: int) -> Tensor:
    """Scales [n] in a shape that broadcasts against a weight of this shape."""
    sizes = [1] * len(shape)
    sizes[channel_axis] = shape[channel_axis]
    if groups == 1:
        return scale.view(sizes)
    by_group = scale.view([groups, *sizes])
    return by_group.expand(-1, shape[0] // groups, *sizes[1:]).flatten(0, 1)


def _weight(name: str, site: WeightSite, latent: Tensor) -> Weight:
    value, codes, scale = site.value(latent), None, None
    if site.is_quantizing:
        kept = latent * site.mask.to(latent.dtype) if site.is_pruning else latent
        codes = widened(kept).div(site.element_scale).round_().clamp_(float(site.low), float(site.high))
        codes, scale = codes.to(torch.int32).cpu().contiguous(), site.scale.flatten().cpu()
    bits = int(site.bits) if codes is not None else FLOAT_BITS
    return Weight(name, _plain(value), bits, codes, scale, site.channel_axis, site.groups)


def _distinct(
    network: nn.Module, *, left_out: Set[str], preferred: Set[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A state_dict's tensors, each under its preferred or else its first name, and the other names."""
    found: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, each in sorted(_state(network, left_out), key=lambda item: item[0] not in preferred):
        if id(each) in first:
            aliases[name] = first[id(each)]
        else:
            first[id(each)] = name
            found[name] = each
    return found, aliases


def _state(network: nn.Module, left_out: Set[str]) -> Iterator[tuple[str, Tensor]]:
    state: Mapping[str, object] = network.state_dict(keep_vars=True)
    for name, each in state.items():
        if name in left_out or name.startswith(RESULTS):
            continue
        if not isinstance(each, Tensor):
            raise ValueError(f"{name} in the network's state_dict is no tensor, but {type(each).__name__}")
        yield name, each


def _names_of_sites(places: Places) -> frozenset[str]:
    return frozenset(f"{path}.{name}" if path else name for path in places.outputs for name in (MASK, SCALE))


def _active(site: object) -> bool:
    return bool(getattr(site, "is_pruning", False) or getattr(site, "is_quantizing", False))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _cpu(output: Output) -> Output:
    mask, scale = (None if each is None else _plain(each) for each in (output.mask, output.scale))
    return Output(mask, scale, output.bits, output.axis)
