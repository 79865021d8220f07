"""What decides a run's state at a step, as plain data and as a digest: runs of equal digest share the computation."""

import hashlib
import importlib.util
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from qp_runner.schedule import Stage

PACKAGE = Path(__file__).resolve().parents[1]
DECIDING = ("schedule", "compress", "models", "data", "tasks", "training", "run/build.py", "config/instantiate.py")
"""The parts of this package whose source decides what a training step computes."""

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "torchmetrics", "pycocotools")
"""What steps, images read in them and the measurements of a run's history are computed with."""


@dataclass(frozen=True)
class Identity:
    """A run, as far as its state is concerned.

    Attributes:
        context: plain data that counts from the first step on: configuration, seed, lengths, numerics, versions.
        stages: the compiled schedule.
        compress: plain data that counts once an event has fired: how masks and scales are chosen.
    """

    context: Mapping[str, Any]
    stages: tuple[Stage, ...]
    compress: Mapping[str, Any]

    @cached_property
    def root(self) -> str:
        """The digest of the context alone: runs that differ in it share nothing."""
        return digest(self.context)

    @property
    def events(self) -> list[int]:
        """The steps before which something fires, ascending."""
        return [stage.first for stage in self.stages if stage.fires]

    def prefix(self, step: int) -> dict[str, Any]:
        """All that decides the state after `step` steps, before an event that fires there. What follows is left out."""
        begun = [describe(stage) for stage in self.stages if stage.first < step]
        fired = any(stage["fires"] for stage in begun)
        compress = dict(self.compress) if fired else None
        return {"step": step, "stages": begun, "compress": compress, "context": dict(self.context)}

    def digest(self, step: int) -> str:
        """The digest of `prefix(step)`."""
        return digest(self.prefix(step) | {"context": self.root})


def describe(stage: Stage) -> dict[str, Any]:
    """A stage as plain data, without its end: that is decided by what follows."""
    return {
        "first": stage.first,
        "weight": [stage.weight.sparsity, stage.weight.bits],
        "activation": [stage.activation.sparsity, stage.activation.bits],
        "fires": sorted(f"{op} {target}" for op, target in stage.fires),
    }


def digest(value: object) -> str:
    """A hexadecimal digest of plain data; the order of keys makes no difference."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def numerics(device: torch.device) -> dict[str, Any]:
    """What else decides bits: the processor, the threads among which sums are split, the libraries."""
    known: dict[str, Any] = {name: _version(name) for name in LIBRARIES}
    known |= {"device": device.type, "machine": platform.machine(), "threads": torch.get_num_threads()}
    known["processor"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        known["gpu"] = torch.cuda.get_device_name(device)
        known["cuda"] = torch.version.cuda
    return known


@cache
def source_digest() -> str:
    """The digest of this package's source, as far as it decides what a step computes."""
    parts = [PACKAGE / part for part in DECIDING]
    files = [path for part in parts for path in (sorted(part.rglob("*.py")) if part.is_dir() else [part])]
    return _files_digest(tuple(files), PACKAGE)


@cache
def target_digest(target: str) -> str:
    """The identity of the code behind a `_target_` such as `my_package.MyNet`.

    This package's is in `source_digest`; a library's is its version; of anything else, all source of its top package.
    """
    top = target.partition(".")[0]
    if top == PACKAGE.name:
        return "qp_runner"
    if top in LIBRARIES:
        return f"{top} {_version(top)}"
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "unknown"
    folders = [Path(each) for each in spec.submodule_search_locations or ()]
    if folders:
        return _files_digest(tuple(sorted(folders[0].rglob("*.py"))), folders[0])
    return _files_digest((Path(spec.origin),), Path(spec.origin).parent) if spec.has_location and spec.origin else top


def targets(tree: object) -> set[str]:
    """Every `_target_` in nested plain data."""
    if isinstance(tree, Mapping):
        own = {str(tree["_target_"])} if "_target_" in tree else set()
        return own.union(*(targets(value) for value in tree.values()))
    if isinstance(tree, list | tuple):
        return set[str]().union(*(targets(value) for value in tree))
    return set()


def _files_digest(paths: tuple[Path, ...], root: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.relative_to(root).as_posix().encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
