import importlib
import os
import pickle

import numpy as np
import pytest
import torch

from qp_runner.data import cifar10
from qp_runner.errors import ConfigError

files = importlib.import_module("qp_runner.data.cifar10_files")
PER_FILE = 40
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(files, "IMAGES_PER_FILE", PER_FILE)


def content(number):
    source = np.random.default_rng(number)
    return source.integers(256, size=(PER_FILE, 3072), dtype=np.uint8), np.arange(PER_FILE) % 10


def write(root, layout):
    """A tiny set in an official layout."""
    folder = root / layout
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        images, labels = content(number)
        if layout == files.PYTHON:
            entry = {b"batch_label": b"a batch", b"data": images, b"labels": labels.tolist(), b"filenames": []}
            (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
        else:
            rows = np.concatenate([labels.astype(np.uint8)[:, None], images], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


@pytest.fixture(params=[files.PYTHON, files.BINARY])
def folder(request, tmp_path):
    return write(tmp_path, request.param)


def pixels(samples):
    return samples.images.flatten(1).tolist()


def refused(**arguments):
    with pytest.raises(ConfigError) as caught:
        cifar10(**arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_official_split(folder):
    data = cifar10(root=str(folder.parent))
    assert [len(split) for split in (data.train, data.val, data.test)] == [180, 20, 40]
    assert data.val.labels.bincount().tolist() == [2] * 10
    assert data.shape == (3, 32, 32)
    written = np.concatenate([content(number)[0] for number in range(5)])
    assert sorted(pixels(data.train) + pixels(data.val)) == sorted(written.tolist())
    images, labels = content(5)
    assert pixels(data.test) == images.tolist()
    assert data.test.labels.tolist() == labels.tolist()


def test_holdout_needs_the_training_files_only(folder):
    official = cifar10(root=str(folder.parent))
    next(folder.glob("test_batch*")).unlink()
    data = cifar10(root=str(folder.parent), split="holdout")
    assert torch.equal(data.train.images, official.train.images)
    assert torch.equal(data.val.images, official.val.images)
    assert data.test is data.val
    error = refused(root=str(folder.parent))
    assert error.key == "data.root"
    assert "data.split=holdout needs no test file" in error.allowed


def test_a_subset_limits_training_only_and_is_stratified(folder):
    whole = cifar10(root=str(folder.parent))
    data = cifar10(root=str(folder.parent), subset=50)
    assert data.train.labels.bincount().tolist() == [5] * 10
    assert torch.equal(data.test.images, whole.test.images)
    assert len(data.val) == len(whole.val)


def test_a_complete_layout_is_preferred(tmp_path):
    write(tmp_path, files.BINARY)
    (tmp_path / files.PYTHON).mkdir()
    assert len(cifar10(root=str(tmp_path)).train) == 180


def test_augmentation_can_be_left_out(folder):
    on, off = cifar10(root=str(folder)).augmentation, cifar10(root=str(folder), augment=False).augmentation
    assert (on.pad, on.flip) == (4, True)
    assert (off.pad, off.flip) == (0, False)


@pytest.mark.parametrize(
    "arguments", [*({"subset": subset} for subset in (0, -1, 181, 2.5, "many", True)), {"split": "random"}]
)
def test_impossible_arguments_are_refused(folder, arguments):
    assert refused(root=str(folder), **arguments).key == f"data.{next(iter(arguments))}"


@pytest.mark.parametrize("root", [None, "nowhere", "."])
def test_a_root_without_the_set_says_what_to_do(tmp_path, root):
    error = refused(root=root)
    assert error.key == "data.root"
    assert "data.download=true" in error.allowed
    assert files.PYTHON in error.allowed
    assert root is None or str(tmp_path) in error.allowed


def test_missing_files_are_named(folder):
    ending = files.LAYOUTS[folder.name]
    for number in (2, 4):
        (folder / f"data_batch_{number}{ending}").unlink()
    said = refused(root=str(folder.parent)).allowed
    assert f"data_batch_2{ending}, data_batch_4{ending} missing in {folder}" in said


@pytest.mark.parametrize("keep", [0, 1, 1000, PER_FILE // 2 * 3073])
def test_a_truncated_file_is_named(folder, keep):
    path = folder / f"data_batch_3{files.LAYOUTS[folder.name]}"
    os.truncate(path, keep)
    error = refused(root=str(folder.parent))
    assert error.value == path
    assert "truncated" in error.allowed


def test_a_damaged_binary_file_is_named(tmp_path):
    path = write(tmp_path, files.BINARY) / "test_batch.bin"
    path.write_bytes(b"\x0b" + path.read_bytes()[1:])
    assert "labels from 0 to 11" in refused(root=str(tmp_path)).allowed


@pytest.mark.parametrize(
    "entry",
    [
        b"no pickle at all",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((PER_FILE, 3072), np.uint8)}),
        pickle.dumps({b"data": np.zeros((PER_FILE, 3071), np.uint8), b"labels": [0] * PER_FILE}),
        pickle.dumps({b"data": np.zeros((PER_FILE, 3072), np.float32), b"labels": [0] * PER_FILE}),
    ],
)
def test_a_damaged_pickle_is_named(tmp_path, entry):
    path = write(tmp_path, files.PYTHON) / "data_batch_1"
    path.write_bytes(entry)
    assert refused(root=str(tmp_path)).value == path


def test_a_pickle_can_run_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = write(tmp_path, files.PYTHON) / "data_batch_1"
    path.write_bytes(pickle.dumps(Harmful()))
    assert "does not belong" in refused(root=str(tmp_path)).allowed
    assert not (tmp_path / "made").exists()


def test_a_failed_download_says_why(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network\nat all")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
    error = refused(root=str(tmp_path), download=True)
    assert error.key == "data.root"
    assert "could not download CIFAR-10 to it: no network at all" in str(error)


def test_a_download_is_not_tried_where_files_are(folder, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10", None)
    assert len(cifar10(root=str(folder.parent), download=True).train) == 180
