"""Faster R-CNN (Ren et al. 2015): torchvision's detector with the backbones and heads of this package.

Like torchvision's, a network takes a list of images, float32 [3, h, w] in 0..1, and returns detections in evaluation
(for each image a dict of `boxes` [k, 4], `labels` [k] from 1 and `scores` [k]) or, in training with a list of targets
(`boxes`, `labels`), a dict of four losses. Images are not resized.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from qp_runner.models.backbone_weights import load_backbone
from qp_runner.models.feature_pyramid import LastStageBackbone, PyramidBackbone
from qp_runner.models.resnet_backbone import STAGES, Norm, ResNetBackbone

RATIOS = (0.5, 1.0, 2.0)
KEY = "model.networks.detector.weights"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect


class Normalise(GeneralizedRCNNTransform):
    """torchvision's normalisation and padding of a batch to one size, without its resizing."""

    def __init__(self) -> None:
        super().__init__(min_size=1, max_size=1, image_mean=list(MEAN), image_std=list(STD))

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Returns both unchanged."""
        return image, target


class TwoLayerHead(nn.Module):
    """Two linear layers, each with a separate ReLU, on pooled regions: [k, c, s, s] → [k, width]."""

    def __init__(self, *, in_features: int, width: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc6 = nn.Linear(in_features, width)
        self.relu6 = nn.ReLU()
        self.fc7 = nn.Linear(width, width)
        self.relu7 = nn.ReLU()

    def forward(self, regions: Tensor) -> Tensor:
        """Features of regions."""
        out: Tensor = self.relu7(self.fc7(self.relu6(self.fc6(self.flatten(regions)))))
        return out


class StageHead(nn.Module):
    """A ResNet's last stage on pooled regions, then their mean: [k, c, 7, 7] → [k, 2c]."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.layer4 = stage
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, regions: Tensor) -> Tensor:
        """Features of regions."""
        out: Tensor = self.flatten(self.pool(self.layer4(regions)))
        return out


def faster_rcnn_fpn(
    *,
    classes: int,
    depth: int = 50,
    norm: Norm = "batch",
    weights: str | None = None,
    frozen: int = 0,
    width: int = 64,
    small_stem: bool = False,
    stages: Sequence[str] = STAGES,
    pyramid_channels: int = 256,
    extra_level: bool = True,
    head_width: int = 1024,
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
    proposals: int = 1000,
    regions: int = 512,
    pooled: int = 7,
) -> FasterRCNN:
    """Faster R-CNN with a ResNet and a feature pyramid (Lin et al. 2017).

    Args:
        classes: number of classes, without the background.
        depth: of the ResNet, see `ResNetBackbone`.
        norm: see `norm_layer`.
        weights: of the ResNet: None (random), DEFAULT (torchvision's) or a file.
        frozen: parts that are not trained: 1 for the stem, 2 for stem and first stage, and so on.
        width: see `ResNetBackbone`.
        small_stem: see `ResNetBackbone`.
        stages: the ResNet's stages that the pyramid reads.
        pyramid_channels: channels of every map of the pyramid.
        extra_level: add a map for the largest anchors.
        head_width: width of the two linear layers on regions.
        anchor_sizes: in pixels, one for each map, finest first; each in the ratios 1:2, 1:1 and 2:1.
        proposals: the most proposals per image, in training and evaluation.
        regions: number of proposals drawn for an image's loss.
        pooled: rows and columns of a pooled region.

    Raises:
        ConfigError: weights that can't be loaded.
        ValueError: inconsistent arguments.
    """
    body = _body(depth=depth, norm=norm, weights=weights, frozen=frozen, width=width, small_stem=small_stem)
    if list(stages) != [stage for stage in STAGES if stage in stages] or not stages:
        raise ValueError(f"stages must be some of {', '.join(STAGES)}, in this order, not {', '.join(stages)}")
    for unused in STAGES[STAGES.index(stages[-1]) + 1 :]:
        delattr(body, unused)
    maps = len(stages) + extra_level
    if len(anchor_sizes) != maps:
        raise ValueError(f"anchor_sizes needs one size for each of {maps} maps, not {list(anchor_sizes)}")
    backbone = PyramidBackbone(body, stages=stages, out_channels=pyramid_channels, extra_level=extra_level)
    names = [str(level) for level in range(len(stages))]
    return _detector(
        backbone,
        proposals=proposals,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in anchor_sizes), (RATIOS,) * maps),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=names, output_size=pooled, sampling_ratio=2),
        box_head=TwoLayerHead(in_features=pyramid_channels * pooled**2, width=head_width),
        box_predictor=FastRCNNPredictor(head_width, classes + 1),
        box_batch_size_per_image=regions,
    )


def faster_rcnn_c4(
    *,
    classes: int,
    depth: int = 101,
    norm: Norm = "frozen",
    weights: str | None = "DEFAULT",
    frozen: int = 2,
    width: int = 64,
    small_stem: bool = False,
    anchor_sizes: Sequence[float] = (128, 256, 512),
    proposals: int = 300,
    regions: int = 128,
) -> FasterRCNN:
    """Faster R-CNN in the published form, C4 (Ren et al. 2015; He et al. 2016): proposals from the third stage's map,
    with stride 16, and the fourth stage as the head on their regions.

    Arguments and errors as in `faster_rcnn_fpn`; `anchor_sizes` belong to the one map. By default the stem, the first
    stage and all batch norms are frozen.
    """
    body = _body(depth=depth, norm=norm, weights=weights, frozen=frozen, width=width, small_stem=small_stem)
    head = StageHead(body.get_submodule("layer4"))
    del body.layer4
    return _detector(
        LastStageBackbone(body, out_channels=body.channels[2]),
        proposals=proposals,
        rpn_anchor_generator=AnchorGenerator((tuple(anchor_sizes),), (RATIOS,)),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2),
        box_head=head,
        box_predictor=FastRCNNPredictor(body.channels[3], classes + 1),
        box_batch_size_per_image=regions,
    )


def _body(*, depth: int, norm: Norm, weights: str | None, frozen: int, width: int, small_stem: bool) -> ResNetBackbone:
    if norm == "batch" and frozen:
        raise ValueError("frozen stages need norm frozen or group: a batch norm's statistics would go on changing")
    if norm == "frozen" and weights is None:
        raise ValueError("norm frozen needs weights; without them use batch (eight images or more a step) or group")
    body = ResNetBackbone(depth=depth, norm=norm, width=width, small_stem=small_stem)
    if weights is not None:
        load_backbone(body, weights, depth=depth, key=KEY)
    body.freeze(frozen)
    return body


def _detector(backbone: nn.Module, *, proposals: int, **parts: object) -> FasterRCNN:
    """Torchvision's detector with these parts, without resizing of images."""
    detector = FasterRCNN(
        backbone,
        rpn_pre_nms_top_n_train=2 * proposals,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        **parts,
    )
    detector.transform = Normalise()
    return detector
