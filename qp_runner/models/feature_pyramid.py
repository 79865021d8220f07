"""A feature pyramid (Lin et al. 2017) in which every tensor that is written to memory is the output of a module."""

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from qp_runner.models.resnet_backbone import STAGES, ResNetBackbone


class FeaturePyramid(FeaturePyramidNetwork):
    """torchvision's pyramid with its sums as modules: `merged.0` (the finest) and so on, each an identity that returns
    the sum of a lateral 1×1 convolution and the coarser map.

    Args:
        in_channels: of the input maps, the finest first.
        out_channels: of every output map.
        extra_level: add a map of every second pixel of the coarsest one.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, extra_level: bool) -> None:
        super().__init__(list(in_channels), out_channels)
        self.merged = nn.ModuleList([nn.Identity() for _ in in_channels])
        self.extra_level = extra_level

    def forward(self, x: Sequence[Tensor]) -> "OrderedDict[str, Tensor]":
        """Maps [n, c_i, h_i, w_i] → maps [n, out_channels, h_i, w_i] by name: `0` the finest, `pool` the extra one."""
        laterals = [lateral(feature) for lateral, feature in zip(self.inner_blocks, x, strict=True)]
        above = self.merged[-1](laterals[-1])
        outputs = [self.layer_blocks[-1](above)]
        for level in reversed(range(len(laterals) - 1)):
            lateral = laterals[level]
            above = self.merged[level](lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest"))
            outputs.insert(0, self.layer_blocks[level](above))
        maps = OrderedDict((str(level), output) for level, output in enumerate(outputs))
        if self.extra_level:
            maps["pool"] = outputs[-1][:, :, ::2, ::2]
        return maps


class PyramidBackbone(nn.Module):
    """A ResNet and a pyramid over some of its stages.

    Args:
        body: the ResNet, without the stages after the last one that is read.
        stages: the stages that the pyramid reads, in order.
        out_channels: of every map.
        extra_level: see `FeaturePyramid`.
    """

    def __init__(self, body: ResNetBackbone, *, stages: Sequence[str], out_channels: int, extra_level: bool) -> None:
        super().__init__()
        self.body = body
        self.stages = tuple(stages)
        channels = [body.channels[STAGES.index(stage)] for stage in stages]
        self.fpn = FeaturePyramid(channels, out_channels, extra_level=extra_level)
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Maps by name, for images [n, 3, h, w]."""
        made = self.body(images)
        maps: OrderedDict[str, Tensor] = self.fpn([made[stage] for stage in self.stages])
        return maps


class LastStageBackbone(nn.Module):
    """A ResNet of fewer than four stages, with the last one's map."""

    def __init__(self, body: ResNetBackbone, *, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """The map, named `0`."""
        return OrderedDict([("0", [*self.body(images).values()][-1])])
