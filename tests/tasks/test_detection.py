from functools import partial

import pytest
import torch
from torch import nn

from qp_runner.data import DetectionData, Scene, shapes
from qp_runner.errors import ConfigError
from qp_runner.models import SmallCNN, faster_rcnn_fpn
from qp_runner.tasks import DetectionTask

DATA = shapes(train=12, val=5, test=3, size=32, objects=2)
SMALL = partial(
    faster_rcnn_fpn,
    depth=18,
    width=4,
    small_stem=True,
    norm="batch",
    stages=["layer2", "layer3"],
    pyramid_channels=8,
    extra_level=False,
    head_width=8,
    anchor_sizes=(8, 14),
    proposals=8,
    regions=4,
    pooled=3,
)


def make(build=SMALL, **arguments):
    return DetectionTask(**{"data": DATA, "networks": {"detector": build}, "batch_size": 4, "seed": 0} | arguments)


class Oracle(nn.Module):
    """Returns `answers` for any images, one after the other."""

    def __init__(self, *, classes, answers=()):
        super().__init__()
        self.scale, self.answers, self.next = nn.Parameter(torch.zeros(1)), answers, 0

    def forward(self, images, targets=None):
        found = []
        for _ in images:
            boxes, labels, scores = self.answers[self.next % len(self.answers)]
            found.append({"boxes": boxes, "labels": labels, "scores": scores})
            self.next += 1
        return found


def perfect(scenes):
    return [(scene.boxes, scene.labels, torch.ones(len(scene.labels))) for scene in scenes]


def test_an_oracle_scores_a_hundred():
    task = make(partial(Oracle, answers=perfect(DATA.val)), coco="always")
    task.network.next = 0
    measured = task.evaluate("val")
    assert measured["map_50"] == pytest.approx(100)
    assert measured["coco_map"] == pytest.approx(100, abs=0.01)
    assert measured["coco_map_75"] == pytest.approx(100, abs=0.01)
    names = {name for name in measured if name.startswith("ap_50_")}
    present = {DATA.classes[label - 1] for scene in DATA.val for label in scene.labels[~scene.difficult].tolist()}
    assert names == {f"ap_50_{name}" for name in present}


def test_one_that_finds_nothing_scores_zero():
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    measured = make(partial(Oracle, answers=[nothing])).evaluate("test")
    assert set(measured.values()) == {0.0}
    assert "coco_map" in measured
    assert "coco_map" not in make(partial(Oracle, answers=[nothing])).evaluate("val")
    assert "coco_map" not in make(partial(Oracle, answers=[nothing]), coco="never").evaluate("test")


def test_the_mean_is_over_classes_and_difficult_objects_count_neither_way():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 20, 10, 30]])
    hard = torch.tensor([False, False, True])
    marked = Scene("one", torch.zeros(3, 32, 32, dtype=torch.uint8), (32, 32), boxes, torch.tensor([1, 2, 1]), hard)
    data = DetectionData((marked,), (marked,), (marked,), ("white cell", "dog"))
    for chosen in ([0], [0, 2]):
        answer = (boxes[chosen], torch.tensor([1, 2, 1])[chosen], torch.ones(len(chosen)))
        measured = make(partial(Oracle, answers=[answer]), data=data, batch_size=1).evaluate("test")
        assert measured["ap_50_white_cell"] == pytest.approx(100)
        assert measured["ap_50_dog"] == 0
        assert measured["map_50"] == measured["coco_map"] == pytest.approx(50, abs=0.01)


def test_a_step_yields_the_sum_of_the_losses_once():
    task = make()
    batch = next(task.batches(0))
    ((name, loss),) = task.updates(batch)
    assert name == "detector"
    torch.manual_seed(int(batch.seed))
    assert torch.equal(loss, torch.stack([*task.network(batch.images, batch.targets).values()]).sum())


def test_a_step_neither_uses_nor_changes_the_global_generator():
    losses = []
    for seed in (0, 1):
        task = make()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        [(_, loss)] = task.updates(next(task.batches(0)))
        losses.append(loss)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*losses)


def test_frozen_parameters_are_in_no_group():
    task = make(partial(SMALL, norm="group", frozen=2))
    [group] = task.parameter_groups()["detector"]
    assert 0 < len(group["params"]) < len([*task.network.parameters()])
    assert all(parameter.requires_grad for parameter in group["params"])


def without_objects(height, width):
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return Scene("none", image, (height, width), torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool())


def test_an_image_without_objects_and_a_small_batch_train():
    empty = without_objects(32, 32)
    data = DetectionData((empty, empty, DATA.train[0]), DATA.val, DATA.test, DATA.classes)
    task = make(partial(SMALL, norm="group"), data=data, batch_size=1)
    for batch in task.batches(0):
        for _, loss in task.updates(batch):
            loss.backward()
            assert torch.isfinite(loss)


def test_images_of_several_sizes_train_and_are_measured():
    wide = without_objects(20, 50)
    data = DetectionData((*DATA.train[:3], wide), (wide, DATA.val[0]), DATA.test, DATA.classes)
    task = make(data=data, batch_size=4)
    [(_, loss)] = task.updates(next(task.batches(0)))
    assert torch.isfinite(loss)
    assert 0 <= task.evaluate("val")["map_50"] <= 100


def test_pictures_show_the_boxes():
    task = make(partial(Oracle, answers=perfect(DATA.test)))
    task.network.next = 0
    shown = task.pictures()
    assert list(shown) == [f"{scene.name}__detected__annotated" for scene in DATA.test[:4]]
    for scene, both in zip(DATA.test, shown.values(), strict=False):
        assert both.dtype == torch.uint8
        assert both.shape == (3, 256, 256 + 4 + 256)
        picture, annotated = both[:, :, :256], both[:, :, 260:]
        left, top, _, _ = (8 * scene.boxes[0]).int().tolist()
        colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 255, 255], [255, 255, 0]])
        for drawn in (picture, annotated):
            assert (drawn[:, top + 1, left + 20].int() == colors[scene.labels[0] - 1]).all()
    unsure = [(boxes, labels, torch.full_like(scores, 0.3)) for boxes, labels, scores in perfect(DATA.test)]
    task.network.answers, task.network.next = unsure, 0
    plain = task.pictures()
    assert all(not torch.equal(plain[name], shown[name]) for name in shown)


class NoScores(nn.Module):
    def forward(self, images):
        return [{"boxes": torch.zeros(0, 4)} for _ in images]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"build": lambda classes: SmallCNN(in_channels=3, classes=classes)}, r"model=SmallCNN: does not fit"),
        ({"build": lambda classes: NoScores()}, r"model=NoScores: has to return boxes, labels and scores"),
        ({"build": partial(SMALL, anchor_sizes=(8,))}, r"model\.networks\.detector=.*anchor_sizes"),
        ({"build": partial(SMALL, norm="frozen", weights="nowhere.pt")}, r"model\.networks\.detector\.weights=nowhere"),
        ({"networks": {"network": SMALL}}, r"model\.networks=.*one network, named detector"),
        ({"coco": "sometimes"}, r"task\.factory\.coco=sometimes"),
        ({"batch_size": 13}, r"trainer\.batch_size=13"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=f"^[^\n]*{said}[^\n]*$"):
        make(**arguments)
