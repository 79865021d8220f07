"""Sets of images that Hugging Face's `datasets` has saved to disk."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from qp_runner.data.held_out import with_held_out
from qp_runner.data.image_sets import ImageOptions, image_data
from qp_runner.data.images import ImageData
from qp_runner.data.many_files import files_digest
from qp_runner.data.picture_sources import PictureItems, Pictures
from qp_runner.data.torchvision_sets import with_size
from qp_runner.errors import ConfigError

SPLITS = {"train": ("train",), "val": ("validation", "val", "valid", "dev"), "test": ("test",)}
"""Names of the splits."""


@dataclass(frozen=True, eq=False)
class SavedItems(Dataset[Any]):
    """The items of a split; they count with the files that hold them."""

    rows: Any
    path: Path

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def fingerprint(self) -> str:
        """Of the files of the saved set (see `files_digest`)."""
        paths = sorted(str(each) for each in self.path.expanduser().rglob("*") if each.is_file())
        names = "\0".join(os.path.relpath(path, self.path.expanduser()) for path in paths)
        return hashlib.sha256(f"{names}\0{files_digest(paths, key='data.path')}".encode()).hexdigest()


def huggingface_set(
    *,
    path: str | None,
    image: str | None = None,
    label: str | None = None,
    val_share: float = 0.1,
    test_share: float = 0.2,
    **options: Any,
) -> ImageData:
    """A set of images with classes, from a folder that `save_to_disk` wrote.

    A split that the set does not have is held out of its training images: a fixed, stratified share of every class.

    Args:
        path: the folder.
        image: the column of pictures; None for the only one of its kind.
        label: the column of classes; None for the only one of its kind.
        val_share: of the training images, if there is no validation split.
        test_share: the same for `test`.
        options: see `ImageOptions`; `size: null` leaves images of one size as they are.

    Raises:
        ConfigError: `datasets` is missing, no such folder or column, no training split.
    """
    found = _loaded(path)
    names = {split: next((each for each in known if each in found), None) for split, known in SPLITS.items()}
    if names["train"] is None:
        raise ConfigError("data.path", path, f"needs a split train; it has {', '.join(map(str, found))}")
    rows = {split: found[name] for split, name in names.items() if name is not None}
    features = rows["train"].features
    image, label = _column(features, image, "image"), _column(features, label, "label")
    classes = tuple(getattr(features[label], "names", None) or _numbers(rows, label))
    pictures: dict[str, PictureItems] = {}
    for split, each in rows.items():
        labels = torch.as_tensor(np.asarray(each[label])).long()
        items = SavedItems(each.select_columns([image]), Path(str(path)))
        pictures[split] = PictureItems(items, torch.arange(len(labels)), labels, image)
    shares = {split: share for split, share in (("val", val_share), ("test", test_share)) if split not in pictures}
    splits: Mapping[str, Pictures] = with_held_out(pictures, shares, classes)
    chosen = with_size(options, pictures["train"].items, image)
    return image_data(splits, classes, ImageOptions.checked(chosen))


def _loaded(path: str | None) -> Mapping[str, Any]:
    """The splits by name."""
    try:
        from datasets import Dataset as Rows
        from datasets import load_from_disk
    except ImportError as error:
        allowed = "needs datasets, which is not installed: pip install 'qp_runner[datasets]'"
        raise ConfigError("data.path", path, allowed) from error
    if path is None or not Path(path).expanduser().is_dir():
        raise ConfigError("data.path", path, "a folder that datasets' save_to_disk wrote")
    try:
        found: Any = load_from_disk(str(Path(path).expanduser()))
    except Exception as error:  # many kinds: a foreign folder, damaged files, another version
        raise ConfigError("data.path", path, f"a folder that datasets' save_to_disk wrote: {error}") from error
    return {"train": found} if isinstance(found, Rows) else found


def _column(features: Mapping[str, Any], asked: str | None, kind: str) -> str:
    """The column of pictures or of classes."""
    wanted = {"image": ("Image",), "label": ("ClassLabel",)}[kind]
    of_kind = [name for name, feature in features.items() if type(feature).__name__ in wanted] or [
        name for name in features if asked is None and name in (kind, f"{kind}s", "img")
    ]
    found = of_kind if asked is None else [name for name in features if name == asked]
    if len(found) != 1:
        raise ConfigError(f"data.{kind}", asked, f"one of the columns {', '.join(features)}")
    return str(found[0])


def _numbers(rows: Mapping[str, Any], label: str) -> list[str]:
    highest = max(max(each[label]) for each in rows.values())
    return [str(number) for number in range(highest + 1)]
