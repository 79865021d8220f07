"""A site: one tensor that is masked and quantized; all its state is in buffers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.fake_quantize import (
    code_range,
    compress,
    compress_static,
    input_interval,
    masked_divisor,
    quantize,
)
from qp_runner.schedule import FLOAT_BITS


class Site(nn.Module):
    """Masks and quantizes one tensor.

    Buffers, changed in place by events: `mask` (float32, 1 keeps, 0 prunes) and the same as bool, `kept`; `scale`,
    `low`, `high` (float32), `bits` (int64), `pruning`, `quantizing` (bool). `forward` branches on Python copies of
    them, so that an inactive site costs nothing; with `static` set it reads only the buffers, so that a captured or
    compiled step needs no change after an event.
    """

    mask: Tensor
    kept: Tensor
    scale: Tensor
    spread: Tensor | None
    low: Tensor
    high: Tensor
    bits: Tensor
    pruning: Tensor
    quantizing: Tensor

    reshapes = False  # whether a loaded mask may have another shape

    def __init__(
        self,
        path: str,
        *,
        prunable: bool,
        mask: Tensor,
        scale: Tensor,
        own_bits: int | None = None,
        kind: str = "",
    ) -> None:
        super().__init__()
        self.path, self.kind = path, kind
        self.prunable = prunable
        self.own_bits = own_bits
        self.static = False
        device = mask.device
        self.register_buffer("mask", mask)
        self.register_buffer("kept", mask != 0, persistent=False)
        self.register_buffer("scale", scale)
        self.register_buffer("spread", None, persistent=False)  # the scale as `element_scale`, if it is not so itself
        self.register_buffer("low", torch.tensor(0.0, device=device))
        self.register_buffer("high", torch.tensor(0.0, device=device))
        self.register_buffer("bits", torch.tensor(FLOAT_BITS, device=device))
        self.register_buffer("pruning", torch.tensor(False, device=device))
        self.register_buffer("quantizing", torch.tensor(False, device=device))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Updates the Python copies after an event, a load or a move. Only this waits for the device."""
        self.is_pruning = bool(self.pruning)
        self.is_quantizing = bool(self.quantizing)
        if self.kept.shape == self.mask.shape:
            torch.ne(self.mask, 0, out=self.kept)
        else:
            self.kept = self.mask != 0
        self._divisor: Tensor = self.element_scale
        self._interval: tuple[float, float] | None = None
        self._bounds = (float(self.low), float(self.high))
        if self.is_quantizing and self.is_pruning:
            self._divisor = masked_divisor(self.element_scale, self.mask)
        if self.is_quantizing and self.scale.numel() == 1:
            self._interval = input_interval(scale=float(self.scale), low=self._bounds[0], high=self._bounds[1])

    def bits_for(self, bits: int) -> int:
        """The site's bits when an event asks for `bits`: its own, if it has any, unless quantization is off."""
        return bits if self.own_bits is None or bits == FLOAT_BITS else self.own_bits

    @property
    def element_scale(self) -> Tensor:
        """The scale in a shape that broadcasts against the tensor."""
        return self.scale if self.spread is None else self.spread

    @torch.no_grad()
    def set_mask(self, mask: Tensor) -> None:
        """Sets the mask, in place unless its shape is new."""
        if mask.shape == self.mask.shape:
            self.mask.copy_(mask)
        else:
            self.mask = mask.clone()
        self.pruning.copy_((self.mask == 0).any())
        self.refresh()

    @torch.no_grad()
    def set_quantizer(self, scale: Tensor, bits: int) -> None:
        """Sets the scale (as many elements as the buffer) and the bit width; 32 turns quantization off."""
        low, high = code_range(bits) if bits != FLOAT_BITS else (0, 0)
        self.scale.copy_(scale.reshape(self.scale.shape))
        self.low.fill_(low)
        self.high.fill_(high)
        self.bits.fill_(bits)
        self.quantizing.fill_(bits != FLOAT_BITS)
        self.refresh()

    def forward(self, x: Tensor) -> Tensor:
        """`Q(M ⊙ x)`, or `x` itself while the site is inactive."""
        if self.static:
            return compress_static(
                x,
                kept=self.mask_for(self.kept, x),
                scale=self.element_scale,
                low=self.low,
                high=self.high,
                quantizing=self.quantizing,
            )
        mask = self.mask_for(self.mask, x) if self.is_pruning else self.mask
        if self.is_quantizing:
            return compress(
                x,
                mask=mask if self.is_pruning else None,
                divisor=self._divisor if mask is self.mask else masked_divisor(self.element_scale, mask),
                scale=self.element_scale,
                code_bounds=self._bounds,
                interval=self._interval,
            )
        return x * mask.to(x.dtype) if self.is_pruning else x

    def mask_for(self, mask: Tensor, _x: Tensor) -> Tensor:
        """The site's mask (`mask` or `kept`) in the shape that applies to a tensor."""
        return mask

    @torch.no_grad()
    def value(self, x: Tensor) -> Tensor:
        """The result of `forward` for `x`, by the plain formula and without gradient."""
        kept = x * self.mask_for(self.mask, x).to(x.dtype) if self.is_pruning else x
        if not self.is_quantizing:
            return kept.clone()
        return quantize(kept, scale=self.element_scale, low=self._bounds[0], high=self._bounds[1]).to(x.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> "Site":
        super()._apply(fn, recurse)
        self.refresh()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        mask = state_dict.get(prefix + "mask")
        if mask is not None and self.reshapes:
            self.mask = torch.ones_like(mask, device=self.mask.device) if mask.shape != self.mask.shape else self.mask
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.refresh()


@contextmanager
def switched_off(sites: Iterable[Site]) -> Iterator[None]:
    """Inside, sites return their input; their buffers do not change."""
    modes = [(site, site.static) for site in sites]
    for site, _ in modes:
        site.static = site.is_pruning = site.is_quantizing = False
    try:
        yield
    finally:
        for site, static in modes:
            site.static = static
            site.refresh()
