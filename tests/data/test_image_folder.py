"""A folder of images becomes a classifier's data: splits, conversions, errors; in memory and streamed alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from photos import MOTIFS, write_folder
from qp_runner.data import ImageData, ImageSet, image_folder
from qp_runner.data.streamed_images import StreamedImages
from qp_runner.errors import ConfigError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for number, (split, count) in enumerate({"train": 12, "val": 2, "test": 3}.items()):
        write_folder(root, count, split=split, seed=number)
    return root


def made(root: Path, **options: object) -> ImageData:
    return image_folder(root=str(root), **{"size": 16, "resize": 20, "workers": 0, **options})


def batches(data: ImageData) -> list[torch.Tensor]:
    """Everything that a run sees of its data."""
    found = [each for epoch in range(2) for batch in data.epoch(epoch, batch_size=8, seed=3) for each in batch]
    for batch in data.calibration(samples=5, batch_size=2, seed=3):
        found += batch
    for split in ("val", "test"):
        found += [each for batch in data.evaluation(split, batch_size=4) for each in batch]
    return [*found, *data.sample()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_splits_and_classes_are_those_of_the_folders(whole: Path) -> None:
    data = made(whole)
    assert data.classes == MOTIFS
    assert [len(each) for each in (data.train, data.val, data.test)] == [48, 8, 12]
    assert data.shape == (3, 16, 16)
    assert data.train.labels.bincount().tolist() == [12] * 4
    images = torch.cat([batch.images for batch in data.calibration(samples=48, batch_size=48, seed=0)])
    assert images.mean((0, 2, 3)).abs().max() < 0.2  # normalised by the pixels of the larger squares
    assert (images.std((0, 2, 3)) - 1).abs().max() < 0.2


def test_an_image_is_scaled_and_cut_as_torchvision_does_it(whole: Path) -> None:
    data = made(whole, normalise={"mean": [0, 0, 0], "std": [1, 1, 1]})
    [images, _] = next(iter(data.evaluation("val", batch_size=8)))
    paths = [path for motif in MOTIFS for path in sorted((whole / "val" / motif).iterdir())]
    like = v2.Compose([v2.Resize(20), v2.CenterCrop(16)])
    for path, image in zip(paths, images, strict=True):
        wanted = np.asarray(like(Image.open(path).convert("RGB")))
        assert np.array_equal((image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8), wanted)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transformed", [False, True])
def test_memory_and_workers_change_nothing(whole: Path, workers: int, transformed: bool) -> None:
    options = {"transforms": [v2.RandomResizedCrop(16), v2.ColorJitter(0.3)]} if transformed else {}
    kept, streamed = made(whole, **options), made(whole, memory_gb=0, workers=workers, **options)
    assert isinstance(kept.val, ImageSet)
    assert isinstance(streamed.train, StreamedImages)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = batches(kept)
    torch.rand(3)
    second = batches(streamed)
    assert equal(first, second)
    torch.set_rng_state(before)
    assert not equal(batches(made(whole, flip=False)), first)


def test_a_streamed_epoch_leaves_the_global_generators_alone(whole: Path) -> None:
    data = made(whole, memory_gb=0, transforms=[v2.RandomResizedCrop(16)])
    before = torch.get_rng_state()
    batches(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_folder_is_split_by_class(tmp_path: Path) -> None:
    write_folder(tmp_path, 20)
    data = made(tmp_path, val_share=0.1, test_share=0.2)
    assert [each.labels.bincount().tolist() for each in (data.train, data.val, data.test)] == [
        [14] * 4,
        [2] * 4,
        [4] * 4,
    ]
    assert equal(batches(data), batches(made(tmp_path, val_share=0.1, test_share=0.2)))


def test_a_split_without_a_folder_is_held_out(tmp_path: Path) -> None:
    write_folder(tmp_path, 10, split="train")
    write_folder(tmp_path, 2, split="validation", seed=1)
    data = made(tmp_path)
    assert [len(each) for each in (data.train, data.val, data.test)] == [32, 8, 8]


def test_hidden_and_foreign_files_are_passed_over(whole: Path, tmp_path: Path) -> None:
    write_folder(tmp_path, 10)
    known = batches(made(tmp_path))
    for name in (".DS_Store", "rocket/.DS_Store", "rocket/._0001.png", "rocket/Thumbs.db", "rocket/notes.txt"):
        (tmp_path / name).write_bytes(b"\0")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    assert equal(batches(made(tmp_path)), known)


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    """A grey ramp in all forms gives one and the same sample; a palette keeps its colours."""
    write_folder(tmp_path, 3)
    ramp = np.tile(np.arange(0, 160, 5, dtype=np.uint8), (32, 1))
    grey = Image.fromarray(ramp)
    clear = grey.convert("RGBA")
    clear.putalpha(7)
    turned = Image.fromarray(np.rot90(ramp).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    kinds = {
        "a_grey.png": (grey, {}),
        "b_alpha.png": (clear, {}),
        "c_grey_alpha.png": (clear.convert("LA"), {}),
        "d_palette.png": (grey.convert("P"), {}),
        "e_palette_clear.png": (grey.convert("P"), {"transparency": 3}),
        "f_16_bits.png": (Image.fromarray(ramp.astype(np.uint16) * 257), {}),
        "g_cmyk.tif": (grey.convert("RGB").convert("CMYK"), {}),
        "h_animated.gif": (grey, {"save_all": True, "append_images": [Image.fromarray(255 - ramp)]}),
        "i_turned.png": (turned, {"exif": exif}),
    }
    (tmp_path / "z").mkdir()
    for name, (picture, more) in kinds.items():
        picture.save(tmp_path / "z" / name, **more)
    identity = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    data = made(tmp_path, size=32, resize=None, val_share=0.3, test_share=0.3, normalise=identity)
    samples = [s for split in (data.train, data.val, data.test) for s in split.images[split.labels == 4]]
    assert len(samples) == len(kinds)
    for sample in samples:
        assert (sample - torch.from_numpy(ramp)).abs().max() <= 1


def test_one_channel_is_grey(whole: Path) -> None:
    data = made(whole, channels=1)
    assert data.shape == (1, 16, 16)
    with pytest.raises(ConfigError, match=r"^data\.normalise=imagenet: data, or"):
        made(whole, channels=1, normalise="imagenet")


def without_classes(root: Path) -> None:
    for each in sorted(root.glob("train/**/*"), reverse=True):
        each.unlink() if each.is_file() else each.rmdir()


def without_images(root: Path) -> None:
    for each in (root / "train" / "coffee").iterdir():
        each.unlink()


def truncated(root: Path) -> None:
    path = root / "train" / "coffee" / "0000.png"
    path.write_bytes(path.read_bytes()[:300])


BROKEN = {
    "no class": without_classes,
    "empty": without_images,
    "unknown": lambda root: (root / "test" / "dog").mkdir(),
    "truncated": truncated,
    "text": lambda root: (root / "val" / "coffee" / "0000.png").write_text("not an image"),
    "no train": lambda root: (root / "train").rename(root / "other"),
    "eps": lambda root: Image.new("RGB", (8, 8)).save(root / "val" / "coffee" / "0000.png", format="EPS"),
    "narrow": lambda root: Image.new("L", (1, 900_000)).save(root / "train" / "coffee" / "0.png"),
    "float": lambda root: Image.fromarray(np.zeros((8, 8), np.float32)).save(root / "train" / "coffee" / "0.tif"),
}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no class", r"no class in .*train"),
        ("empty", r"^data\.root=.*train/coffee: has no images; looked for \.png"),
        ("unknown", r"^data\.root=.*test/dog: a class that train has: astronaut, chelsea"),
        ("truncated", r"^data\.root=.*train/coffee/0000\.png: not a readable image"),
        ("text", r"^data\.root=.*val/coffee/0000\.png: not a readable image"),
        ("eps", r"^data\.root=.*val/coffee/0000\.png: not a readable image"),
        ("narrow", r"coffee/0\.png: not a readable image: its 1 x 900000 pixels are too narrow to be scaled to "),
        ("no train", r"there is a folder val, but no folder train"),
        ("float", r"coffee/0\.tif: not a readable image: its pixels have mode F"),
    ],
)
@pytest.mark.parametrize("memory_gb", [1, 0])
def test_what_is_wrong_is_named(tmp_path: Path, what: str, said: str, memory_gb: int) -> None:
    for split in ("train", "val", "test"):
        write_folder(tmp_path, 2, split=split)
    BROKEN[what](tmp_path)
    with pytest.raises(ConfigError, match=said) as caught:
        batches(made(tmp_path, memory_gb=memory_gb, workers=1, normalise="imagenet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "big"}, r"^data\.size=big: pixels a side"),
        ({"size": [16]}, r"^data\.size=\[16\]: pixels a side"),
        ({"resize": 8}, r"^data\.resize=8: at least 16"),
        ({"channels": 4}, r"^data\.channels=4: 3 \(RGB\) or 1"),
        ({"transforms": [3]}, r"^data\.transforms=3: a list of"),
        (
            {"transforms": [v2.RandomResizedCrop(9)]},
            r"^data\.transforms=.*\[3, 9, 9\]: have to end with .* \[3, 16, 16\]",
        ),
        ({"workers": -1}, r"^data\.workers=-1: auto, or"),
        ({"normalise": {"mean": [0.5], "std": [1]}}, r"^data\.normalise=.*: 3 numbers each"),
        ({"test_share": 1.0}, r"^data\.test_share=1\.0: above 0 and below 1"),
        ({"val_share": 0.05}, r"^data\.val_share=.*leaves a split without images of class astronaut, which has 8"),
        ({"sise": 3}, r"^data\.sise=3: unknown key"),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, options: dict[str, object], said: str) -> None:
    write_folder(tmp_path, 8)
    with pytest.raises(ConfigError, match=said):
        batches(made(tmp_path, memory_gb=0, **options))


def test_the_folder_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root=nowhere: no such folder"):
        image_folder(root="nowhere", size=8)
    with pytest.raises(ConfigError, match=r"^data\.root=None: a folder with train/<class>"):
        image_folder(root=None, size=8)


@pytest.mark.parametrize("options", [{}, {"memory_gb": 0}, {"resize": None}])
def test_pictures_from_anywhere_are_prepared_as_those_of_the_test_split(
    whole: Path, options: dict[str, object]
) -> None:
    data = made(whole, **options)
    files = sorted((whole / "test").rglob("*.*g"))
    [batch] = data.evaluation("test", batch_size=len(files))
    assert torch.equal(data.preprocessing()([Image.open(file) for file in files]), batch.images)
