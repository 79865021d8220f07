from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from qp_runner.errors import ConfigError
from qp_runner.models import backbone_weights as loading
from qp_runner.models import faster_rcnn_c4, faster_rcnn_fpn
from qp_runner.models.feature_pyramid import FeaturePyramid
from qp_runner.models.resnet_backbone import STAGES, ResNetBackbone

TINY = {"depth": 18, "width": 4, "small_stem": True, "proposals": 8, "regions": 4, "weights": None, "frozen": 0}


def tiny(**changes):
    torch.manual_seed(0)
    settings = TINY | {"norm": "batch", "pyramid_channels": 8, "head_width": 8, "anchor_sizes": (4, 8, 16, 32, 64)}
    return faster_rcnn_fpn(**{"classes": 3} | settings | changes)


def tiny_c4(**changes):
    torch.manual_seed(0)
    return faster_rcnn_c4(**{"classes": 3} | TINY | {"norm": "batch", "anchor_sizes": (8, 16)} | changes)


def batch():
    images = [torch.rand(3, 40, 33), torch.rand(3, 32, 48)]
    targets = [
        {"boxes": torch.tensor([[2.0, 3, 20, 30]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return images, targets


@pytest.mark.parametrize("depth", [18, 50])
def test_the_stages_are_torchvisions(depth):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    ours = ResNetBackbone(depth=depth, norm="batch").eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc")})
    image = torch.rand(2, 3, 64, 48)
    found = ours(image)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    for name in STAGES:
        x = getattr(theirs, name)(x)
        assert torch.equal(found[name], x)
    assert [each.shape[1] for each in found.values()] == ours.channels


def test_the_pyramid_is_torchvisions():
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork([4, 6, 8], 5)
    ours = FeaturePyramid([4, 6, 8], 5, extra_level=True)
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.rand(2, 4, 16, 12), torch.rand(2, 6, 8, 6), torch.rand(2, 8, 4, 3)]
    expected = theirs({str(i): each for i, each in enumerate(maps)})
    found = ours(maps)
    assert list(found) == ["0", "1", "2", "pool"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(found["pool"], found["2"][:, :, ::2, ::2])


@pytest.mark.parametrize("make", [tiny, tiny_c4])
def test_losses_in_training_and_detections_in_evaluation(make):
    network, (images, targets) = make(), batch()
    losses = network(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    found = network.eval()(images)
    assert len(found) == 2
    for image, each in zip(images, found, strict=True):
        assert set(each) == {"boxes", "labels", "scores"}
        assert set(each["labels"].tolist()) <= {1, 2, 3}
        assert (each["boxes"][:, 2] <= image.shape[2]).all()
        assert (each["boxes"][:, 3] <= image.shape[1]).all()


@pytest.mark.parametrize("make", [tiny, tiny_c4])
def test_every_relu_is_used_once_a_map(make):
    """A module called twice for one tensor's sake would be one site for two tensors."""
    network, calls = make().eval(), {}
    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    network([torch.rand(3, 32, 32)])
    levels = 5 if make is tiny else 1
    assert {name: count for name, count in calls.items() if count > 1} == (
        {"rpn.head.conv.0.1": levels} if levels > 1 else {}
    )
    assert len(calls) == sum(isinstance(module, nn.ReLU) for module in network.modules())


def test_frozen_stages_are_not_trained():
    network = tiny(norm="group", frozen=2)
    frozen = {name.split(".")[2] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}


def test_parameters_are_those_of_torchvisions_detector():
    with torch.device("meta"):
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        ours = faster_rcnn_fpn(classes=90, depth=50, norm="batch")
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    assert shapes == {name: value.shape for name, value in theirs.state_dict().items()}
    assert sum(parameter.numel() for parameter in ours.parameters()) == 41_808_406


def test_the_published_form_has_a_resnets_stages_once():
    with torch.device("meta"):
        network = faster_rcnn_c4(classes=20, norm="batch", weights=None, frozen=0)
        resnet = torchvision.models.resnet101(weights=None)
    rpn = 1024 * 1024 * 9 + 1024 + (1024 + 1) * 9 * (1 + 4)
    expected = sum(p.numel() for p in resnet.parameters()) - 2049 * 1000 + rpn + 2049 * 21 * (1 + 4)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def saved(tmp_path, depth=18, **changes):
    body = ResNetBackbone(**{"depth": depth, "norm": "batch", "width": 4, "small_stem": True} | changes)
    state = body.state_dict() | {"fc.weight": torch.zeros(1000, 32)}
    torch.save(state, tmp_path / "weights.pt")
    return body, str(tmp_path / "weights.pt")


@pytest.mark.parametrize("make", [tiny, tiny_c4])
def test_weights_come_from_a_file(make, tmp_path):
    body, path = saved(tmp_path)
    network = make(weights=path, norm="frozen", frozen=2)
    assert torch.equal(network.backbone.body.conv1.weight, body.conv1.weight)
    assert torch.equal(network.backbone.body.layer3[0].bn1.weight, body.layer3[0].bn1.weight)
    last = network.roi_heads.box_head.layer4 if make is tiny_c4 else network.backbone.body.layer4
    assert torch.equal(last[1].conv2.weight, body.layer4[1].conv2.weight)


def test_weights_that_can_not_be_had_are_an_error(tmp_path, monkeypatch):
    def refused(**changes):
        with pytest.raises(ConfigError) as caught:
            tiny(**{"norm": "frozen"} | changes)
        assert caught.value.key == "model.networks.detector.weights"
        return str(caught.value)

    assert "no such file" in refused(weights=str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    assert "not a file of weights" in refused(weights=str(tmp_path / "text.pt"))
    _, path = saved(tmp_path, width=8)
    assert "missing or of another shape" in refused(weights=path)

    def fail(*_args, **_kwargs):
        raise URLError("no network")

    best = torchvision.models.get_model_weights("resnet18").DEFAULT
    monkeypatch.setattr(type(best), "get_state_dict", fail)
    assert "null to train from scratch" in refused(weights=loading.DOWNLOADED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 20}, "depth must be one of"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"width": 0}, "width must be at least 1"),
        ({"norm": "group", "frozen": 6}, "from 0 to 5"),
        ({"frozen": 1}, "need norm frozen or group"),
        ({"norm": "frozen"}, "needs weights"),
        ({"anchor_sizes": (8, 16)}, "one size for each of 5 maps"),
        ({"stages": ["layer3", "layer2"]}, "in this order"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        tiny(**changes)
