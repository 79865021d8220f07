"""The two kinds of site: a weight, and a module's output."""

from typing import Any

import torch
from torch import Tensor, nn

from qp_runner.compress.errors import not_a_tensor, wrong_shape
from qp_runner.compress.mask import broadcasts, tileable, tiled
from qp_runner.compress.observers import Granularity, Observer, channel_means
from qp_runner.compress.selection import Place
from qp_runner.compress.site import Site


class WeightSite(Site):
    """A weight, quantized per output channel. The latent weight stays the module's Parameter.

    A pruned element's latent weight gets no gradient (weight decay and momentum still move it), so it can return when
    a later event ranks the weights anew.
    """

    def __init__(self, place: Place) -> None:
        weight: Tensor = place.module.weight  # type: ignore[assignment]
        shape = [1] * weight.dim()
        shape[place.channel_axis] = weight.shape[place.channel_axis]
        mask = torch.ones_like(weight, dtype=torch.float32, requires_grad=False)
        scale = torch.ones(shape, device=weight.device)
        super().__init__(place.path, prunable=place.prunable, mask=mask, scale=scale)
        self.channel_axis = place.channel_axis
        self.given: Tensor | None = None  # its value, where a bank has computed it

    def forward(self, x: Tensor) -> Tensor:
        """`Q(M ⊙ x)`, or what a bank has made of it for this step."""
        return super().forward(x) if self.given is None else self.given

    def rows(self, x: Tensor) -> Tensor:
        """`x`, one output channel a row."""
        return x.transpose(0, self.channel_axis).flatten(1)


class ActivationSite(Site):
    """A module's output, quantized per tensor. Its mask is 0-dim until its shape is known, then of a training sample's.

    Samples may be larger elsewhere: super-resolution trains on patches and evaluates on whole images. Then
    - by channel (`granularity: channel`) a mask means the same for any size: these channels are zero everywhere;
    - by element it is tiled (`mask.tiled`), as in the published experiments: where training zeroed position (i, j) of a
      patch of h × w, positions (i + a·h, j + b·w) are zero for all a, b. The share of zeros stays the patch's, up to
      the cropping at the ends; a position has no meaning of its own any more. The footprint is a patch's.
    """

    reshapes = True
    before: Observer | None
    after: Observer | None

    def __init__(self, place: Place, device: torch.device) -> None:
        super().__init__(
            place.path,
            prunable=place.prunable,
            mask=torch.ones((), device=device),
            scale=torch.ones((), device=device),
        )
        self.before = self.after = None

    def hook(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> Tensor | None:
        """The module's forward hook: nothing while the site is inactive. Calibration sets the observers for a while."""
        observed = self.before is not None or self.after is not None
        if not (self.static or self.is_pruning or self.is_quantizing or observed):  # a compiler stops at `static`
            return None
        if not isinstance(output, Tensor):
            raise not_a_tensor(self.path, module, output)
        if self.before is not None:
            self.before(output)
        result: Tensor = self(output)
        if self.after is not None:
            self.after(result)
        return result

    def allocate(self, sample: Tensor, granularity: Granularity) -> None:
        """Gives a mask that has no shape yet that of a sample, its memory layout too: later changes are in place."""
        if not self.prunable or self.mask.dim() > 0:
            return
        like = sample if granularity == "element" else channel_means(sample[None])[0]
        self.mask = torch.ones_like(like, dtype=torch.float32, device=self.mask.device)
        self.refresh()

    def laid(self, mask: Tensor, x: Tensor) -> Tensor:
        """The site's mask as it is laid over a batch [n, ...]: tiled where samples are of another size than the mask.

        Looks at shapes alone, which a compiler knows: a compiled training step has no trace of it.
        """
        shape, sample = mask.shape, x.shape[1:]
        if broadcasts(shape, sample):
            return mask
        if not tileable(shape, sample):
            raise wrong_shape(self.path, tuple(shape), tuple(sample))
        return tiled(mask, sample)
