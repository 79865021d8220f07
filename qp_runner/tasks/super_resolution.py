"""Super-resolution of photographs, on their luminance."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qp_runner.data import Patches, Photograph, SuperResolutionData
from qp_runner.data.luminance import luminance, with_luminance
from qp_runner.errors import ConfigError
from qp_runner.metric import Metric
from qp_runner.tasks.base import Task, evaluating
from qp_runner.tasks.checks import check_data, check_shape
from qp_runner.tasks.networks import build_networks
from qp_runner.tasks.pictures import side_by_side
from qp_runner.tasks.similarity import ssim

NETWORK = "network"
PICTURES = 6  # test images shown
PICTURE_SIZE = 144  # high-resolution pixels a side, at most
WINDOW_STEP = 8  # pixels between the positions at which a picture may begin


class SuperResolutionTask(Task):
    """One network from low to high resolution, mean squared error, PSNR in dB.

    Training sees patches, evaluation whole images of any size; see `compress.sites.ActivationSite` for the masks of
    activations there. A sample, and so the footprint, is one training patch.

    Args:
        data: patches and images.
        networks: `network` builds the network from `scale`; it maps luminance [n, 1, h, w] to [n, 1, h·scale, w·scale].
        batch_size: training patches per step.
        seed: decides initial weights, data order and calibration samples.
        last_lr_scale: multiplies the learning rate of the network's last convolution.

    Raises:
        ConfigError: a network that does not fit the data, a batch larger than the training set.
    """

    metric = Metric("psnr", higher_is_better=True, unit="dB")
    data: SuperResolutionData

    def __init__(
        self,
        *,
        data: SuperResolutionData,
        networks: Mapping[str, Callable[..., nn.Module]],
        batch_size: int,
        seed: int,
        last_lr_scale: float = 1.0,
    ) -> None:
        check_data(data, SuperResolutionData, task="super_resolution", such_as="photographs, t91_set5")
        if not isinstance(last_lr_scale, int | float) or not last_lr_scale > 0:
            raise ConfigError("task.factory.last_lr_scale", last_lr_scale, "a number above 0")
        self.last_lr_scale = last_lr_scale
        built = build_networks(networks, {NETWORK: {"scale": data.scale}}, task="super_resolution", seed=seed)
        super().__init__(data=data, samples=len(data.train.low), networks=built, batch_size=batch_size, seed=seed)
        self.network = built[NETWORK]
        low, high = self.sample()
        check_shape(type(self.network).__name__, self.network, low, tuple(high.shape))
        self._bicubic: dict[str, float] = {}

    def parameter_groups(self) -> Mapping[str, list[dict[str, Any]]]:
        """The last convolution in one group, the rest in another."""
        convolutions = [module for module in self.network.modules() if isinstance(module, nn.Conv2d)]
        last = list(convolutions[-1].parameters()) if convolutions else []
        ids = {id(parameter) for parameter in last}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in ids]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": last, "lr_scale": self.last_lr_scale}]
        return {NETWORK: [group for group in groups if group["params"]]}

    def updates(self, batch: Patches) -> Iterator[tuple[str, Tensor]]:
        """One update."""
        yield NETWORK, F.mse_loss(self.network(batch.low), batch.high)

    def infer(self, batch: Patches) -> None:
        """A forward pass."""
        self.network(batch.low)

    def sample(self) -> Patches:
        """The first training patch."""
        return Patches(self.data.train.low[:1], self.data.train.high[:1])

    def evaluate(self, split: Literal["val", "test"]) -> dict[str, float]:
        """Means over images of `psnr` in dB, `ssim`, the mean squared error `loss`; `bicubic_psnr` to compare with.

        As in the literature: on luminance, clamped to [0, 1], without a border as wide as the scale; PSNR per image
        (peak 255), then the mean. The figure of bicubic interpolation does not depend on the network.
        """
        images = self._images(split)
        rows = []
        with evaluating(self.networks()):
            for image in images:
                made, wanted = self._inner(self._enlarge(image)), self._inner(image.high)
                error = F.mse_loss(made, wanted)
                rows.append(torch.stack([psnr(made, wanted), ssim(made[None], wanted[None]), error]))
        values = torch.stack(rows).mean(dim=0).tolist()
        return {**dict(zip(("psnr", "ssim", "loss"), values, strict=True)), "bicubic_psnr": self._bicubic_psnr(split)}

    def pictures(self) -> Mapping[str, Tensor]:
        """Bicubic interpolation, output and original of the first test images, where interpolation errs most."""
        made = {}
        with evaluating(self.networks()):
            for image in self.data.test[:PICTURES]:
                output = with_luminance(image.bicubic, self._enlarge(image).cpu())  # chroma is interpolated, as usual
                window = _window(image)
                parts = [part[window] for part in (image.bicubic, output, image.rgb)]
                made[f"{image.name}__bicubic__output__original"] = side_by_side(parts)
        return made

    def _images(self, split: Literal["val", "test"]) -> tuple[Photograph, ...]:
        return self.data.val if split == "val" else self.data.test

    def _enlarge(self, image: Photograph) -> Tensor:
        """Luminance at high resolution [1, h, w], float32 in [0, 1]."""
        made: Tensor = self.network(image.low[None])[0]
        return made.float().clamp(0, 1)

    def _inner(self, image: Tensor) -> Tensor:
        """The image without the border in which interpolation and convolution lack pixels."""
        border = self.data.scale
        return image[:, border:-border, border:-border]

    def _bicubic_psnr(self, split: Literal["val", "test"]) -> float:
        if split not in self._bicubic:
            pairs = [(luminance(image.bicubic), image.high.cpu()) for image in self._images(split)]
            values = [psnr(self._inner(made), self._inner(high)) for made, high in pairs]
            self._bicubic[split] = float(torch.stack(values).mean())
        return self._bicubic[split]


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in dB of values with peak 1: −10·log₁₀ of the mean squared error."""
    return -10 * torch.log10(F.mse_loss(made, wanted))


def _window(image: Photograph) -> tuple[slice, slice, slice]:
    """The part of an image [3, h, w], at most PICTURE_SIZE pixels a side, where interpolation is worst."""
    error = (luminance(image.bicubic) - luminance(image.rgb)).square()
    size = [min(PICTURE_SIZE, side) for side in error.shape[1:]]
    means = F.avg_pool2d(error[None], size, stride=WINDOW_STEP)[0, 0]
    top, left = (WINDOW_STEP * place for place in divmod(int(means.argmax()), means.shape[1]))
    return slice(None), slice(top, top + size[0]), slice(left, left + size[1])
