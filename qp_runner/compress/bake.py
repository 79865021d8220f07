"""Baking: a plain copy of a compressed network, which computes the same without sites."""

import copy
from collections.abc import Iterable

from torch import Tensor, nn

from qp_runner.compress.attach import Attachment, detach_weight, latent
from qp_runner.compress.fake_quantize import widened
from qp_runner.compress.mask import broadcasts, tiled
from qp_runner.compress.site import Site

MASK, SCALE, RANGE = "site_mask", "site_scale", "site_range"
"""What a baked module keeps of its output's site: two buffers, and the lowest and the highest code as a tuple."""


def bake(network: nn.Module, attachments: Iterable[Attachment]) -> nn.Module:
    """A plain deep copy whose outputs equal the attached network's bit for bit.

    Its weights are the compressed values. A module with an active activation site keeps its class and its place; the
    site's mask and scale become buffers of it, and a forward hook of standard operations, `compress_output`, takes the
    place of the site's hook among the module's own ones. Weights that sites share stay shared.
    """
    paths = {id(module): path for path, module in network.named_modules()}
    inside = [attachment for attachment in attachments if id(attachment.module) in paths]
    plain = copy.deepcopy(network)
    values: dict[Site, nn.Parameter] = {}
    for a in inside:
        module = plain.get_submodule(paths[id(a.module)])
        if a.handle is not None:
            _bake_output(module, a.handle.id, a.site)
        else:
            original = latent(a.module)
            if a.site not in values:
                values[a.site] = nn.Parameter(a.site.value(original), requires_grad=original.requires_grad)
            detach_weight(module)
            module._parameters["weight"] = values[a.site]
    return plain


def compress_output(module: nn.Module, _args: object, output: Tensor) -> Tensor:
    """`Q(M ⊙ output)` of a baked module, as its forward hook."""
    mask, scale = getattr(module, MASK), getattr(module, SCALE)
    if mask is not None:
        shaped = mask if broadcasts(mask.shape, output.shape[1:]) else tiled(mask, output.shape[1:])
        output = output * shaped.to(output.dtype)
    if scale is None:
        return output
    low, high = getattr(module, RANGE)
    return ((widened(output) / scale).round().clamp(low, high) * scale).to(output.dtype)


def _bake_output(module: nn.Module, hook: int, site: Site) -> None:
    if not (site.is_pruning or site.is_quantizing):
        del module._forward_hooks[hook]
        return
    module.register_buffer(MASK, site.mask.clone() if site.is_pruning else None)
    module.register_buffer(SCALE, site.scale.clone() if site.is_quantizing else None)
    setattr(module, RANGE, (float(site.low), float(site.high)))
    module._forward_hooks[hook] = compress_output
