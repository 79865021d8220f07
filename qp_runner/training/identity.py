"""What decides a run's state at a step, as plain data and as a digest: runs with the same digest share training."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from qp_runner.schedule import Stage
from qp_runner.versions import package_version

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "torchmetrics", "pycocotools")
"""What computes training steps, reads their images, and measures what a run's history contains."""


@dataclass(frozen=True)
class Identity:
    """What decides a run's state.

    Attributes:
        context: plain data that matters from the first step on: configuration, seed, lengths, numerics, versions.
        stages: the compiled schedule.
        compress: plain data that matters once an event has fired: how masks and scales are chosen.
    """

    context: Mapping[str, Any]
    stages: tuple[Stage, ...]
    compress: Mapping[str, Any]

    @cached_property
    def root(self) -> str:
        """The digest of the context: runs with different ones share nothing."""
        return digest(self.context)

    @property
    def events(self) -> list[int]:
        """The steps before which something fires, in ascending order."""
        return sorted({stage.first for stage in self.stages if stage.fires})

    def prefix(self, step: int) -> dict[str, Any]:
        """Everything that decides the state after `step` steps, before an event that fires there."""
        begun = [without_end(stage) for stage in self.stages if stage.first < step]
        fired = any(stage["fires"] for stage in begun)
        compress = dict(self.compress) if fired else None
        return {"step": step, "stages": begun, "compress": compress, "context": dict(self.context)}

    def digest(self, step: int) -> str:
        """The digest of `prefix(step)`."""
        return digest(self.prefix(step) | {"context": self.root})


def without_end(stage: Stage) -> dict[str, Any]:
    """A stage's record without its last step, which depends on what follows."""
    return {key: value for key, value in stage.record().items() if key != "last"}


def digest(value: object) -> str:
    """A hexadecimal digest of plain data; the order of keys makes no difference."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def numerics(device: torch.device) -> dict[str, Any]:
    """What else decides floating-point results: processor, number of threads (they split sums), library versions."""
    known: dict[str, Any] = {name: package_version(name) for name in LIBRARIES}
    known |= {"device": device.type, "machine": platform.machine(), "threads": torch.get_num_threads()}
    known["python"] = platform.python_version()
    known["processor"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        known["gpu"] = torch.cuda.get_device_name(device)
        known["cuda"] = torch.version.cuda
    return known


@cache
def source_digest(parts: tuple[str, ...]) -> str:
    """The digest of this package's source in some of its files and folders, by their paths in it."""
    files: list[Path] = []
    for part in parts:
        path = PACKAGE / part
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return _files_digest(files, PACKAGE)


def _files_digest(paths: Sequence[Path], root: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.relative_to(root).as_posix().encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()
