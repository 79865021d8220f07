"""The classification sets of torchvision, by name, from disk or downloaded."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from qp_runner.data.held_out import with_held_out
from qp_runner.data.image_sets import ImageOptions, image_data
from qp_runner.data.images import ImageData
from qp_runner.data.picture_sources import PictureItems, Pictures
from qp_runner.errors import ConfigError

OFFICIAL = {  # what the splits are called where they are not `train` and `test`
    "DTD": {"train": "train", "val": "val", "test": "test"},
    "Flowers102": {"train": "train", "val": "val", "test": "test"},
    "FGVCAircraft": {"train": "train", "val": "val", "test": "test"},
    "RenderedSST2": {"train": "train", "val": "val", "test": "test"},
    "PCAM": {"train": "train", "val": "val", "test": "test"},
    "Country211": {"train": "train", "val": "valid", "test": "test"},
    "OxfordIIITPet": {"train": "trainval", "test": "test"},
    "Imagenette": {"train": "train", "val": "val"},
    "ImageNet": {"train": "train", "val": "val"},
}
LABELS = ("targets", "labels", "_labels", "y")
"""Attributes in which torchvision's sets keep their classes."""


def torchvision_set(
    *,
    name: str,
    root: str | None,
    download: bool = False,
    val_share: float = 0.1,
    test_share: float = 0.2,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> ImageData:
    """A classification set of `torchvision.datasets`, in its official splits.

    A split that the set does not have is held out of its training images: a fixed, stratified share of every class.

    Args:
        name: of the class, such as FashionMNIST or CIFAR100.
        root: the folder below which torchvision looks for it.
        download: download it to `root` if it is missing.
        val_share: of the training images, if there is no official validation split.
        test_share: the same for `test`.
        arguments: further ones of the class, such as `split: letters` of EMNIST.
        options: see `ImageOptions`; `size: null` leaves images of one size as they are.

    Raises:
        ConfigError: an unknown name, missing files, a set that is not one of images with classes.
    """
    if root is None:
        raise ConfigError("data.root", root, "the folder that holds the set, or is to hold it: add data.download=true")
    make = _class(name)
    given = dict(arguments or {})
    found = {split: _made(make, name, root, download, given, split) for split in _official(make, name, given)}
    pictures = {split: PictureItems(each, torch.arange(_length(each)), _labels(each)) for split, each in found.items()}
    classes = _classes(found["train"], [each.labels for each in pictures.values()])
    shares = {split: share for split, share in (("val", val_share), ("test", test_share)) if split not in pictures}
    splits: Mapping[str, Pictures] = with_held_out(pictures, shares, classes)
    return image_data(splits, classes, ImageOptions.checked(with_size(options, found["train"])))


def with_size(options: Mapping[str, Any], items: Dataset[Any], key: str | int = 0) -> dict[str, Any]:
    """Options with the size of the first picture, if they have none."""
    if options.get("size") is not None:
        return dict(options)
    picture: Any = items[0][key]
    height, width = np.asarray(picture).shape[:2]
    return {**options, "size": [height, width]}


def _class(name: str) -> Callable[..., Any]:
    from torchvision import datasets  # slow to import

    made: Any = getattr(datasets, name, None) if name in datasets.__all__ else None
    if not inspect.isclass(made) or not issubclass(made, datasets.VisionDataset) or name == "FakeData":
        near = ", ".join(difflib.get_close_matches(name, datasets.__all__, n=3, cutoff=0.4)) or "none like it"
        raise ConfigError("data.name", name, f"a set of torchvision.datasets; near: {near}")
    return made


def _official(make: Callable[..., Any], name: str, given: Mapping[str, Any]) -> dict[str, str]:
    known = inspect.signature(make).parameters
    if "train" in known or ("split" in known and "split" not in given):
        return OFFICIAL.get(name, {"train": "train", "test": "test"})
    return {"train": "train"}  # all images in one


def _made(
    make: Callable[..., Any], name: str, root: str, download: bool, given: Mapping[str, Any], split: str
) -> Dataset[Any]:
    known, chosen = inspect.signature(make).parameters, dict(given)
    if "train" in known:
        chosen["train"] = split == "train"
    elif "split" in known and "split" not in given:
        chosen["split"] = _official(make, name, given)[split]
    if "download" in known:
        chosen["download"] = download
    try:
        made: Dataset[Any] = make(root, **chosen)
    except Exception as error:  # torchvision raises many kinds: files missing, damaged, no network, no space
        hint = (
            "" if download else "; data.download=true downloads it, or put its files there as torchvision lays them out"
        )
        raise ConfigError("data.root", root, f"no {name} that can be read: {error}{hint}") from error
    return made


def _length(items: Any) -> int:
    return len(items)


def _labels(items: Any) -> Tensor:
    """The classes [n] of all items, without reading pictures where the set knows them."""
    found = next((getattr(items, each) for each in LABELS if getattr(items, each, None) is not None), None)
    if found is None or len(found) != len(items):
        found = [items[index][1] for index in range(len(items))]
    try:
        labels = torch.as_tensor(np.asarray(found)).long()
    except (TypeError, ValueError):
        labels = torch.empty(0)
    if labels.dim() != 1:
        kind = type(items).__name__
        raise ConfigError("data.name", kind, "a set of images with one class each")
    return labels


def _classes(items: Any, labels: list[Tensor]) -> tuple[str, ...]:
    """Names of the classes, or their numbers."""
    count = 1 + max(int(each.max()) for each in labels)
    names = next((each for key in ("classes", "categories") if (each := getattr(items, key, None))), None)
    if names is None or len(names) < count:
        return tuple(map(str, range(count)))
    return tuple(str(each) if isinstance(each, str) else str(each[0]) for each in names)
