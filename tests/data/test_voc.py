import logging
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from PIL import Image

from qp_runner.data import voc_layout
from qp_runner.errors import ConfigError

CAT = ("cat", (1, 1, 10, 8), 0)
DOG = ("dog", (5, 3, 20, 16), 0)


def annotation(things):
    rows = []
    for name, box, difficult in things:
        edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=False))
        inside = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges.items())
        bndbox = f"<bndbox>{inside}</bndbox>" if box is not None else ""
        rows.append(f"<object><name>{name}</name><difficult>{difficult}</difficult>{bndbox}</object>")
    return f"<annotation><size><width>1</width></size>{''.join(rows)}</annotation>"


def write(root: Path, lists, things, size=(20, 16)):
    """A set in VOC's layout: names by list, objects by name."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, names in lists.items():
        (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{each}\n" for each in names))
    for number, (name, objects) in enumerate(things.items()):
        (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
        Image.new("RGB", size, (number, 100, 200)).save(root / "JPEGImages" / f"{name}.jpg")
    return root


LISTS = {"train": ["a", "b"], "val": ["c"], "test": ["c"]}


@pytest.fixture
def small(tmp_path):
    return write(tmp_path, LISTS, {"a": [CAT], "b": [CAT, DOG], "c": [DOG]})


def refused(**arguments):
    with pytest.raises(ConfigError) as caught:
        voc_layout(**arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_set_is_read_with_its_classes(small):
    data = voc_layout(root=str(small))
    assert data.classes == ("cat", "dog")
    assert [len(getattr(data, split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert data.train[1].labels.tolist() == [1, 2]
    assert data.train[1].size == (16, 20)
    assert data.train[0].boxes.tolist() == [[0, 0, 10, 8]]  # pixels count from 1, and a box includes its last ones
    assert voc_layout(root=str(small), classes=["dog", "cat"]).train[1].labels.tolist() == [2, 1]


@pytest.mark.parametrize("cache", [True, False])
def test_images_and_boxes_are_scaled_together(small, cache):
    data = voc_layout(root=str(small), size=8, max_size=100, cache=cache)
    scene = data.train[0]
    assert scene.size == (8, 10)
    assert scene.pixels().shape == (3, 8, 10)
    assert scene.boxes.tolist() == [[0, 0, 5, 4]]
    assert isinstance(scene.image, torch.Tensor) == cache
    assert voc_layout(root=str(small), size=100, max_size=10).train[0].size == (8, 10)


def test_what_can_not_be_used_is_counted_and_left_out(tmp_path, caplog):
    things = [
        CAT,
        ("cat", (5, 5, 5, 5), 0),
        ("cat", (5, 5, 9, 5), 0),
        ("cat", None, 0),
        ("cat", (5, 5, "x", 9), 0),
        ("cat", (30, 1, 40, 9), 0),
        ("bird", (1, 1, 9, 9), 0),
        ("cat", (-3, 2, 25, 9), 0),
    ]
    root = write(tmp_path, LISTS, {"a": things, "b": [], "c": [DOG]})
    with caplog.at_level(logging.WARNING):
        data = voc_layout(root=str(root), classes=["cat", "dog"])
    counts = "1 objects of class bird, 1 objects outside their image, 2 objects with a degenerate box"
    assert f"{root}: left out {counts}, 2 objects without a box" in caplog.text
    assert data.train[0].boxes.tolist() == [[0, 0, 10, 8], [0, 1, 20, 9]]  # the last one cut at the image's edges
    assert data.train[1].boxes.shape == (0, 4)  # background


def test_difficult_objects_are_marked(tmp_path):
    root = write(tmp_path, LISTS, {"a": [CAT, ("dog", (2, 2, 9, 9), 1)], "b": [], "c": [DOG]})
    assert voc_layout(root=str(root)).train[0].difficult.tolist() == [False, True]


def test_sets_of_several_years_below_a_devkit(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    write(devkit / "VOC2007", {"trainval": ["a", "b"], "test": ["c"]}, {"a": [CAT], "b": [CAT], "c": [DOG]})
    write(devkit / "VOC2012", {"trainval": ["d", "e"]}, {"d": [DOG], "e": [CAT]})
    lists = {"train": ["VOC2007/trainval", "VOC2012/trainval"], "val": None, "test": ["VOC2007/test"]}
    data, again = (voc_layout(root=str(tmp_path), **lists, holdout=1) for _ in range(2))
    assert len(data.train) == 3
    assert {scene.name for scene in (*data.train, *data.val)} == {"a", "b", "d", "e"}
    assert [scene.name for scene in again.val] == [scene.name for scene in data.val]


def test_a_lists_second_column_is_not_read(small):
    (small / "ImageSets/Main/train.txt").write_text("a  1\nb -1\n\n")
    assert [scene.name for scene in voc_layout(root=str(small)).train] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".JPG", ".png"])
def test_images_with_other_endings_are_found(small, suffix):
    (small / "JPEGImages/a.jpg").rename(small / f"JPEGImages/a{suffix}")
    assert len(voc_layout(root=str(small)).train) == 2


def test_nothing_there_says_what_where_and_how_to_get_it(tmp_path):
    error = refused(root=str(tmp_path / "nowhere"))
    assert error.key == "data.root"
    assert str(tmp_path / "nowhere") in str(error)
    assert "VOCtrainval_06-Nov-2007.tar" in str(error)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("JPEGImages/b.jpg", "names 1 without an image"),
        ("Annotations/b.xml", "names 1 without an annotation"),
        ("ImageSets/Main/val.txt", "has no ImageSets/Main/val.txt"),
    ],
)
def test_missing_files_are_named(small, gone, said):
    (small / gone).unlink()
    error = refused(root=str(small))
    assert said in str(error)
    assert Path(gone).stem in str(error)


@pytest.mark.parametrize("broken", ["JPEGImages/b.jpg", "Annotations/b.xml", "ImageSets/Main/val.txt"])
def test_broken_files_are_named(small, broken):
    (small / broken).write_text("\n")
    assert broken in str(refused(root=str(small)))


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"size": 0}, "data.size"),
        ({"max_size": 0}, "data.max_size"),
        ({"val": None, "holdout": 2}, "data.holdout"),
        ({"train": "train"}, "data"),
        ({"test": ["VOC2010/test"], "download": True}, "data.download"),
    ],
)
def test_senseless_arguments_are_refused(small, arguments, key):
    assert refused(root=str(small), **arguments).key == key


def test_annotations_without_a_class_are_refused(tmp_path):
    assert refused(root=str(write(tmp_path, LISTS, {"a": [], "b": [], "c": []}))).key == "data.classes"


def test_a_download_without_a_network_is_an_error_that_names_it(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.VOCDetection", fail)
    lists = {"train": ["VOC2007/trainval"], "val": None, "test": ["VOC2007/test"]}
    error = refused(root=str(tmp_path), **lists, download=True)
    assert error.key == "data.download"
    assert "no network" in str(error)
