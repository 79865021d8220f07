"""Any data sets of torch's as a task's data: tables, sounds, tokens, images with masks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset, TensorDataset

from qp_runner.data.loading import Place, load, processes
from qp_runner.data.rows import Rows, full_batches
from qp_runner.data.seeding import generator
from qp_runner.errors import ConfigError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Items:
    """Three data sets whose items are tuples or mappings of tensors and numbers, all of one form.

    A `TensorDataset` is kept on the training device. Items of others are read for each batch; what they draw from
    torch's global generator depends on seed, epoch and position only.

    Args:
        train, val, test: the splits.
        classes: names of the classes, if there are any.
        workers: processes that read items; 0 for none, `auto`: see `loading.processes`.
        device: of the batches.

    Raises:
        ConfigError: a split without items, or that is no data set with a length.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    classes: Sequence[str] = ()
    workers: int | str = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        processes(self.workers)
        for name in SPLITS:
            split: Any = getattr(self, name)
            if not hasattr(split, "__len__") or not hasattr(split, "__getitem__"):
                raise ConfigError("data", f"{name} split", f"is no data set with a length ({type(split).__name__})")
            if len(split) == 0:
                raise ConfigError("data", f"{name} split", "has no items")

    def to(self, device: torch.device) -> "Items":
        """The same data with batches on a device; tensors are moved once."""
        splits: dict[str, Any] = {}
        for name in SPLITS:
            split = getattr(self, name)
            tensors = type(split) is TensorDataset
            splits[name] = TensorDataset(*(each.to(device) for each in split.tensors)) if tensors else split
        return replace(self, device=device, **splits)

    def epoch(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Any]:
        """Shuffled training batches, which depend on (seed, epoch) only; an incomplete last one is dropped."""
        index = [rows.positions for rows in self._rows(epoch, batch_size=batch_size, seed=seed)]
        yield from self._batches(self.train, index, (seed, epoch))

    def rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Any]:
        """The same batches before `make`; those of other sets than tensors are made already."""
        make = self._rows if type(self.train) is TensorDataset else self.epoch
        yield from make(epoch, batch_size=batch_size, seed=seed)

    def make(self, rows: Rows) -> Any:
        """A training batch, of tensors."""
        return next(self._batches(self.train, [rows.positions], ()))

    def _rows(self, epoch: int, *, batch_size: int, seed: int) -> Iterator[Rows]:
        train: Any = self.train
        order = torch.randperm(len(train), generator=generator(seed, "order", epoch))
        device = train.tensors[0].device if type(train) is TensorDataset else torch.device("cpu")
        return full_batches([order], batch_size=batch_size, device=device)

    def calibration(self, *, samples: int, batch_size: int, seed: int) -> Iterator[Any]:
        """Training items, always the same for a seed (all of them if there are fewer)."""
        train: Any = self.train
        order = torch.randperm(len(train), generator=generator(seed, "calibration"))[:samples]
        yield from self._batches(train, order.split(batch_size), (seed, "calibration"))

    def sample(self) -> Any:
        """A batch of the first training item."""
        return next(self._batches(self.train, [torch.zeros(1, dtype=torch.int64)], ("sample",)))

    def evaluation(self, split: Literal["val", "test"], *, batch_size: int) -> Iterator[Any]:
        """A complete split in order."""
        chosen: Any = getattr(self, split)
        yield from self._batches(chosen, torch.arange(len(chosen)).split(batch_size), (split,))

    def _batches(self, items: Any, index: Sequence[Tensor], place: Place) -> Iterator[Any]:
        if type(items) is TensorDataset:
            device = items.tensors[0].device
            for each in index:
                chosen = each.to(device)
                yield tuple(tensor[chosen] for tensor in items.tensors)
        else:
            for batch in load(items, index, workers=processes(self.workers), place=place):
                yield tree_map(self._moved, batch)

    def _moved(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value


def as_items(data: object) -> Items:
    """What a data function may return instead: a mapping or a tuple of the three splits. Raises ConfigError."""
    if isinstance(data, Items):
        return data
    if isinstance(data, Mapping) and set(SPLITS) <= data.keys():
        return Items(**data)
    if isinstance(data, tuple) and len(data) == len(SPLITS):
        return Items(*data)
    allowed = "supervised takes ImageData: data=image_folder, torchvision; or Items, or data sets train, val and test"
    raise ConfigError("data", type(data).__name__, allowed)


def targets(items: Any, pick: Callable[[Any], Tensor]) -> Tensor:
    """All targets of a split, flattened, on the CPU; `pick` takes them out of a batch. Always the same."""
    if type(items) is TensorDataset:
        return pick(items.tensors).flatten().cpu()
    batches = load(items, torch.arange(len(items)).split(64), workers=0, place=("targets",))
    return torch.cat([pick(batch).flatten() for batch in batches])
