"""The two kinds of sites: a weight, and the result of a call."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.attach import latent
from qp_runner.compress.calls import first_tensor, with_first
from qp_runner.compress.errors import Granularity, not_a_tensor, wrong_shape
from qp_runner.compress.location import SiteLocation
from qp_runner.compress.mask import broadcasts, tileable, tiled
from qp_runner.compress.observers import Observer, channel_means
from qp_runner.compress.site import Site


class WeightSite(Site):
    """A weight, quantized per output channel. The latent weight stays the module's Parameter.

    The latent weight of a pruned element gets no gradient, though weight decay and momentum still change it; it can
    return when a later event ranks the weights again.

    The scale has one element for each output channel and broadcasts against the weight; but for a transposed grouped
    convolution, whose weight is [in, out / groups, ...], it is [groups, 1, out / groups, 1, ...].
    """

    def __init__(self, location: SiteLocation) -> None:
        weight = latent(location.module, location.name).detach()
        mask = torch.ones_like(weight, dtype=torch.float32, requires_grad=False)
        shape = [1] * weight.dim()
        shape[location.channel_axis] = weight.shape[location.channel_axis]
        if location.groups > 1:
            shape = [location.groups, *shape]
        scale = torch.ones(shape, device=weight.device)
        super().__init__(
            location.path,
            prunable=location.prunable,
            mask=mask,
            scale=scale,
            own_bits=location.bits,
            kind=location.kind,
        )
        self.channel_axis, self.groups = location.channel_axis, location.groups
        self.given: Tensor | None = None  # its value for `given_for`, if a bank has computed it
        self.given_for: Tensor | None = None
        if self.groups > 1:
            self.spread = self._spread()

    def refresh(self) -> None:
        """As in `Site`; a scale by group is also spread over the inputs of each group."""
        if self.spread is not None:
            self.spread.copy_(self._spread())
        super().refresh()

    def forward(self, x: Tensor) -> Tensor:
        """`Q(M ⊙ x)`, or the bank's result of it for this step; a copy of the network has other weights."""
        return super().forward(x) if self.given is None or x is not self.given_for else self.given

    def rows(self, x: Tensor) -> Tensor:
        """`x` with one output channel per row, in the order of the scales."""
        parts = x.unflatten(0, (self.groups, -1)).transpose(1, self.channel_axis + 1)
        return parts.flatten(2).flatten(0, 1)

    def _spread(self) -> Tensor:
        """Scales [groups, 1, out / groups, 1, ...] as [in, out / groups, 1, ...]."""
        inputs = self.mask.shape[0] // self.groups
        return self.scale.expand(-1, inputs, *self.scale.shape[2:]).flatten(0, 1)


class ActivationSite(Site):
    """The result of a module's or a function's call, quantized per tensor; of a tuple its first tensor. Its mask is
    0-dim until the shape of a training sample is known.

    Samples may be larger in evaluation: super-resolution trains on patches and evaluates on whole images. Then
    - a mask by channel (`granularity: channel`) applies to any size: its channels are zero everywhere;
    - a mask by element is tiled (`mask.tiled`), as in the published experiments: if position (i, j) of a patch of h × w
      is pruned, positions (i + a·h, j + b·w) are zero for all a, b. The share of zeros stays that of the patch, up to
      cropping at the ends. The footprint is that of a patch.
    """

    reshapes = True
    before: Observer | None
    after: Observer | None

    def __init__(self, location: SiteLocation, device: torch.device, granularity: Granularity = "element") -> None:
        super().__init__(
            location.path,
            prunable=location.prunable,
            mask=torch.ones((), device=device),
            scale=torch.ones((), device=device),
            own_bits=location.bits,
            kind=location.kind,
        )
        self.batch_axis = location.batch_axis
        self.granularity = granularity
        self.before = self.after = None

    def hook(self, _module: nn.Module | None, _args: tuple[Any, ...], output: Any) -> Any:
        """A module's forward hook, or what is done with a function's result; None while there is nothing to do, as
        when the site is inactive. Calibration sets the observers.
        """
        observed = self.before is not None or self.after is not None
        if not (
            self.static or self.is_pruning or self.is_quantizing or observed
        ):  # `static` first: a compiler then skips the rest
            return None
        x = first_tensor(output)
        if x is None:
            raise not_a_tensor(self.path, output)
        with torch._C.DisableTorchFunction():  # what sites compute is no call of the network's
            return with_first(output, self._observed(x.movedim(self.batch_axis, 0) if self.batch_axis else x))

    def _observed(self, x: Tensor) -> Tensor:
        if self.before is not None:
            self.before(x)
        result: Tensor = self(x)
        if self.after is not None:
            self.after(result)
        return result.movedim(0, self.batch_axis) if self.batch_axis else result

    def allocate(self, sample: Tensor) -> None:
        """Gives a 0-dim mask the shape and memory layout of a sample, so that later changes are in place."""
        if not self.prunable or self.mask.dim() > 0:
            return
        like = sample if self.granularity == "element" else channel_means(sample[None])[0]
        self.mask = torch.ones_like(like, dtype=torch.float32, device=self.mask.device)
        self.refresh()

    def mask_for(self, mask: Tensor, x: Tensor) -> Tensor:
        """The site's mask for a batch [n, ...]: tiled where samples have another size than the mask.

        Depends on shapes only, so a compiled step has no trace of it.
        """
        shape, sample = mask.shape, x.shape[1:]
        if broadcasts(shape, sample):
            return mask
        if not tileable(shape, sample):
            raise wrong_shape(self.path, self.granularity, [tuple(shape), tuple(sample)])
        return tiled(mask, sample)


@contextmanager
def serving(values: Mapping[WeightSite, Tensor], *, latents: Mapping[WeightSite, Tensor]) -> Iterator[None]:
    """Inside, weight sites return the given values for their latent weights."""
    for site, value in values.items():
        site.given, site.given_for = value, latents[site]
    try:
        yield
    finally:
        for site in values:
            site.given = site.given_for = None
