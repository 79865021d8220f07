"""All weight sites computed at once, for executors that capture or compile a step.

A network has dozens of weights, most of them small. Masking and quantizing them one by one spends its time on launching
and compiling kernels, so here they are concatenated into one flat tensor.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from qp_runner.compress.sites import WeightSite, serving


class WeightBank:
    """The compressed values of all weight sites, computed in a few kernels.

    `refresh` copies the sites' masks and scales into flat buffers, in place, after every event, so a captured step sees
    the new values.

    Args:
        latents: the latent weight of every site; dense, in any memory layout.
    """

    def __init__(self, latents: Mapping[WeightSite, Tensor]) -> None:
        self.latents = dict(latents)
        first = next(iter(self.latents.values()))
        size = sum(latent.numel() for latent in self.latents.values())
        self.kept = torch.ones(size, dtype=torch.bool, device=first.device)
        self.scale, self.low, self.high = (torch.ones(size, device=first.device) for _ in range(3))
        self.quantizing = torch.zeros(size, dtype=torch.bool, device=first.device)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the sites' masks, scales and ranges, in place."""
        offset = 0
        for site, latent in self.latents.items():
            part = slice(offset, offset + latent.numel())
            offset = part.stop
            self.kept[part].copy_(_flat(torch.empty_like(latent, dtype=torch.bool).copy_(site.mask)))
            self.scale[part].copy_(_flat(torch.empty_like(latent, dtype=torch.float32).copy_(site.element_scale)))
            self.low[part].copy_(site.low)
            self.high[part].copy_(site.high)
            self.quantizing[part].copy_(site.quantizing)

    @contextmanager
    def serving(self, dtype: torch.dtype = torch.float32) -> Iterator[None]:
        """Inside, every site returns a value computed once, in this dtype, as part of the autograd graph."""
        values = _Compute.apply(self, dtype, *self.latents.values())
        with serving(dict(zip(self.latents, values, strict=True)), latents=self.latents):
            yield


class _Compute(torch.autograd.Function):
    """`s · clamp(round(m·w / s), low, high)` of every latent; the gradient as in `fake_quantize`."""

    @staticmethod
    def forward(ctx: Any, bank: WeightBank, dtype: torch.dtype, *latents: Tensor) -> tuple[Tensor, ...]:
        kept = torch.cat([_flat(latent) for latent in latents]).float().mul_(bank.kept)
        code = (kept / bank.scale).round_()
        ctx.bank, ctx.latents = bank, latents
        ctx.passed = bank.kept & (~bank.quantizing | ((code >= bank.low) & (code <= bank.high)))
        values = code.clamp_(bank.low, bank.high).mul_(bank.scale)
        return tuple(_split(torch.where(bank.quantizing, values, kept).to(dtype), latents))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        # made of differentiable operations, for `create_graph=True`
        flat = torch.cat([_like(gradient, latent) for gradient, latent in zip(gradients, ctx.latents, strict=True)])
        return None, None, *_split(flat.float().mul_(ctx.passed), ctx.latents)


def _flat(x: Tensor) -> Tensor:
    """A dense tensor's elements in memory order; a view."""
    return x.as_strided((x.numel(),), (1,))


def _like(gradient: Tensor | None, latent: Tensor) -> Tensor:
    """A gradient's elements in the order of its latent weight's; zeros for an unused weight."""
    if gradient is None:
        return latent.new_zeros(latent.numel())
    if gradient.stride() != latent.stride():
        gradient = torch.empty_like(latent, dtype=gradient.dtype).copy_(gradient)
    return _flat(gradient)


def _split(flat: Tensor, latents: Iterable[Tensor]) -> Iterator[Tensor]:
    """Views of a flat tensor, each with the shape and layout of its latent weight."""
    offset = 0
    for latent in latents:
        yield flat.as_strided(latent.shape, latent.stride(), offset)
        offset += latent.numel()
