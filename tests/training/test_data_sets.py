"""Whatever a task trains and measures on counts with its content; what can't be digested is named, never shared."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from qp_runner.training import Content, content, content_of
from support import make_trainer

CONSTANT = torch.zeros(3)


def content_with(data: object) -> Content:
    """Of a task with this attribute."""
    _, task, _ = make_trainer(None, epochs=1)
    task.held = data  # type: ignore[attr-defined]
    return content_of(task)


def digest(data: object) -> str:
    found = content_with(data)
    assert not found.problem
    return found.digest


class InMemory(Dataset[Tensor]):
    def __init__(self, images: Any, transform: Any = None) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.images[index]
        return image if self.transform is None else self.transform(image)


class Files(Dataset[bytes]):
    """Reads files of a folder that only the code names."""

    folder: Path

    def __init__(self, length: int = 2) -> None:
        self.length = length
        self.opened: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> bytes:
        if index not in self.opened:
            self.opened[index] = (self.folder / str(index)).read_bytes()
        return self.opened[index]


class Listed(Dataset[bytes]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        return Path(self.paths[index]).read_bytes()


class Counted(Files):
    def fingerprint(self) -> str:
        return f"{self.length} items"


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield 0


class Noisy(InMemory):
    """Draws from the global generators and from one of its own."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(images)
        self.random = torch.Generator()

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index] + torch.rand(()) + torch.rand((), generator=self.random) + np.random.rand()  # noqa: NPY002


@dataclass
class Scale:
    by: float

    def __call__(self, image: Tensor) -> Tensor:
        return image * self.by


def test_a_changed_item_changes_it() -> None:
    images = torch.zeros(4, 3)
    known = digest(InMemory(images))
    assert digest(InMemory(images.clone())) == known
    other = images.clone()
    other[3, 2] = 1
    for wrap in (
        InMemory,
        TensorDataset,
        lambda x: Subset(InMemory(x), [3]),
        lambda x: ConcatDataset([InMemory(x)] * 2),
    ):
        assert digest(wrap(images)) != digest(wrap(other))
        assert digest(DataLoader(wrap(images))) != digest(DataLoader(wrap(other)))


def test_a_changed_file_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Files, "folder", tmp_path, raising=False)
    (tmp_path / "0").write_bytes(b"a")
    (tmp_path / "1").write_bytes(b"b")
    known = digest(Files())
    assert digest(Files()) == known
    (tmp_path / "1").write_bytes(b"c")
    assert digest(Files()) != known


def test_reading_items_changes_neither_the_data_set_nor_the_generators() -> None:
    data = Noisy(torch.zeros(4))
    before, drawn = data.random.get_state(), torch.get_rng_state()
    known = digest(data)
    assert digest(data) == known
    assert torch.equal(data.random.get_state(), before)
    torch.rand(1)
    assert digest(data) == known
    torch.set_rng_state(drawn)


def test_transforms_count_with_what_they_hold() -> None:
    images, factor = torch.ones(2, 3), 2
    variants = [
        InMemory(images, Scale(1.0)),
        InMemory(images, Scale(2.0)),
        InMemory(images, lambda x: x + 1),
        InMemory(images, lambda x: x + 2),
        InMemory(images, lambda x: x + factor),
    ]
    assert len({digest(each) for each in variants}) == len(variants)


def test_a_large_data_set_counts_with_the_files_it_lists_or_its_fingerprint_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "ITEMS", 1)
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"1")
    listed = Listed(list(map(str, paths)))
    known = digest(listed)
    paths[1].write_bytes(b"22")
    assert digest(listed) != known
    assert digest(Counted(2)) != digest(Counted(3))
    assert "held is a data set of more than 1 items" in content_with(Files()).problem
    assert "fingerprint()" in content_with(InMemory(torch.zeros(2, 3))).problem
    monkeypatch.setattr(content, "ITEMS", 10)
    monkeypatch.setattr(content, "BYTES", 1 << 20)
    assert "or 1 MiB" in content_with(InMemory([torch.zeros(1, 600, 300).expand(2, -1, -1)] * 2)).problem


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Endless(), "held is a data set without a length"),
        ({"deep": [Locked()]}, "held.deep.0.lock is a lock"),
        (generator(), "held is a generator"),
        (InMemory(io.BufferedReader(io.BytesIO(b"x"))), "held.images is a BufferedReader"),
        (torch.zeros(3, device="meta"), "held is a Tensor"),
    ],
)
def test_what_cant_be_digested_is_named(value: object, named: str) -> None:
    found = content_with(value)
    assert found.digest == ""
    assert found.problem.startswith(named)


class Slots:
    __slots__ = ("a",)

    def __init__(self, a: int) -> None:
        self.a = a


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value


def closure(value: int) -> Any:
    return lambda: value


def uses_constant() -> Tensor:
    return CONSTANT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Plain(1), Plain(2)),
        (Plain(Plain(1)), Plain(Plain(2))),
        (Slots(1), Slots(2)),
        (closure(1), closure(2)),
        (np.arange(3), np.arange(3) + 1),
        (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        ({"a", "b"}, {"a", "c"}),
        ({1: "a"}, {"1": "a"}),
        (torch.nn.Linear(1, 1).requires_grad_(True), torch.nn.Linear(1, 1).requires_grad_(False)),
        (Plain(1).__init__, Plain(2).__init__),
        (InMemory, Files),
        ((1, 2), [1, 2]),
        (True, 1),
    ],
)
def test_different_objects_have_different_digests(one: object, other: object) -> None:
    assert digest(one) != digest(other)


def test_what_a_function_names_in_its_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = digest(uses_constant)
    monkeypatch.setitem(globals(), "CONSTANT", torch.ones(3))
    assert digest(uses_constant) != known


def test_a_folder_counts_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"1")
    known = digest(Plain(tmp_path)), digest(Plain(str(tmp_path)))
    (tmp_path / "deep" / "file").write_bytes(b"22")
    assert (digest(Plain(tmp_path)), digest(Plain(str(tmp_path)))) != known
    assert not content_with(Plain("/")).problem  # a separator, most likely


def test_objects_that_refer_to_each_other_have_a_digest() -> None:
    one = Plain(None)
    one.value = [one]
    other = Plain(None)
    other.value = [other]
    assert digest(one) == digest(other)
