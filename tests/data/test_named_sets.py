"""Sets by name: torchvision's, from files in their official layout, and those that `datasets` has saved."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from photos import MOTIFS, cuts
from qp_runner.data import ImageData, torchvision_set
from qp_runner.data.streamed_images import StreamedImages
from qp_runner.errors import ConfigError

RANDOM = np.random.default_rng(0)


def fashion(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """FashionMNIST's four files with few images; returns those for training."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    made = {}
    for name, count in (("train", 200), ("t10k", 50)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
        made[name] = images, labels
    return made["train"]


def test_fashion_mnist_from_disk(tmp_path: Path) -> None:
    images, labels = fashion(tmp_path)
    data = torchvision_set(name="FashionMNIST", root=str(tmp_path), channels=1, flip=False)
    assert data.shape == (1, 28, 28)
    assert data.classes[:2] == ("T-shirt/top", "Trouser")
    assert [len(each) for each in (data.train, data.val, data.test)] == [180, 20, 50]
    kept = torch.cat([data.train.images, data.val.images])  # type: ignore[union-attr]
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    found = torch.cat([data.train.labels, data.val.labels]).tolist()
    assert [known[each.numpy().tobytes()] for each in kept] == found


def test_cifar_100_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # of the official files
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 300), ("test", 100)):
        pixels = RANDOM.integers(0, 256, (count, 3072), dtype=np.uint8)
        content = {"data": pixels, "fine_labels": [number % 100 for number in range(count)]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {number}" for number in range(100)]}))
    data = torchvision_set(name="CIFAR100", root=str(tmp_path), val_share=0.34)
    assert data.shape == (3, 32, 32)
    assert len(data.classes) == 100
    assert [len(each) for each in (data.train, data.val, data.test)] == [200, 100, 100]
    assert torch.equal(data.test.images[-1].flatten(), torch.from_numpy(pixels[-1]))  # type: ignore[union-attr]


def test_a_streamed_set_has_the_batches_of_one_in_memory(tmp_path: Path) -> None:
    fashion(tmp_path)
    kept = torchvision_set(name="FashionMNIST", root=str(tmp_path), size=20, resize=24)
    streamed = torchvision_set(name="FashionMNIST", root=str(tmp_path), size=20, resize=24, memory_gb=0, workers=2)
    assert isinstance(streamed.train, StreamedImages)
    for one, other in zip(*(each.epoch(1, batch_size=30, seed=0) for each in (kept, streamed)), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FashionMnist", r"^data\.name=FashionMnist: a set of torchvision\.datasets; near: FashionMNIST"),
        ("FakeData", r"^data\.name=FakeData: a set of torchvision"),
        ("CIFAR100", r"^data\.root=.*no CIFAR100 that can be read: .*data\.download=true"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        torchvision_set(name=name, root=str(tmp_path))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Four classes of photographs, saved by `datasets`."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "label": datasets.ClassLabel(names=list(MOTIFS)),
            "name": datasets.Value("string"),
        }
    )
    splits = {}
    for seed, (split, count) in enumerate({"train": 10, "validation": 2}.items()):
        rows = [
            {"picture": picture, "label": number, "name": motif}
            for number, motif in enumerate(MOTIFS)
            for picture in cuts(motif, count, seed=seed)
        ]
        splits[split] = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "set"))
    return tmp_path / "set"


def huggingface(path: Path, **options: object) -> ImageData:
    from qp_runner.data import huggingface_set

    return huggingface_set(path=str(path), size=16, workers=1, **options)  # type: ignore[arg-type]


def test_a_set_that_datasets_saved(saved: Path) -> None:
    data = huggingface(saved)
    assert data.classes == MOTIFS
    assert [len(each) for each in (data.train, data.val, data.test)] == [32, 8, 8]  # the test images are held out
    streamed = huggingface(saved, memory_gb=0)
    for one, other in zip(*(each.evaluation("test", batch_size=3) for each in (data, streamed)), strict=True):
        assert torch.equal(one.images, other.images)
    known = streamed.train.pictures.items.fingerprint()  # type: ignore[union-attr]
    assert huggingface(saved, memory_gb=0).test.pictures.items.fingerprint() == known  # type: ignore[union-attr]


def test_a_set_that_datasets_did_not_save_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path=.*: a folder that datasets' save_to_disk wrote"):
        huggingface(tmp_path)
    with pytest.raises(ConfigError, match=r"^data\.label=nothing: one of the columns picture, label, name"):
        huggingface(saved, label="nothing")
