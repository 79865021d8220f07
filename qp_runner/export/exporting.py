"""Writes a task's networks as files, and verifies each of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from qp_runner.compress import Compressor, measure
from qp_runner.compress.footprint import MEGABIT
from qp_runner.export.comparison import Forward, compare
from qp_runner.export.contents import Contents, contents
from qp_runner.export.loading import load_packed
from qp_runner.export.machine import zstd_size
from qp_runner.export.packed import save_packed
from qp_runner.export.settings import ExportSettings
from qp_runner.export.verification import Verified, judge_packed
from qp_runner.tasks import Task

PACKED = "packed.safetensors"


@dataclass(frozen=True)
class Exporting:
    """What is exported.

    Attributes:
        task: with its data and trained networks.
        compressor: has their sites.
        fresh: builds one of the networks anew, without sites.
    """

    task: Task
    compressor: Compressor
    fresh: Callable[[str], nn.Module]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks that are compressed."""
        return dict(self.task.compressible())


def export(given: Exporting, folder: Path, settings: ExportSettings) -> list[Verified]:
    """Writes the files into a folder, and verifies them on the test set. Raises ExportError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: contents(given.compressor, network) for name, network in given.networks.items()}
    verified = []
    if "packed" in settings.formats:
        verified.append(_packed(given, found, folder / PACKED))
    if "onnx" in settings.formats:
        from qp_runner.export.exporting_onnx import export_onnx  # its libraries are an extra

        verified += export_onnx(given, found, folder, settings)
    return verified


def _packed(given: Exporting, found: dict[str, Contents], path: Path) -> Verified:
    task, networks = given.task, given.networks
    sizes = save_packed(path, found)
    verified = Verified(path, "packed")
    loaded: dict[str, nn.Module] = {}
    for name in networks:
        network = given.fresh(name)
        start = time.process_time()
        loaded[name] = load_packed(path, network, name=name)
        verified.figures["read_s"] = verified.figures.get("read_s", 0.0) + time.process_time() - start
    before = task.evaluate("test")[task.metric.name]
    moved = {name: each.to(device_of(networks[name])) for name, each in loaded.items()}
    forwards: dict[str, list[Forward]] = {name: [each] for name, each in moved.items()}
    judge_packed(verified, compare(task, networks, forwards), metric=task.metric, before=before)
    add_sizes(verified, sizes, given)
    counted = measure(given.compressor, kind="stored").weight * MEGABIT / 8
    verified.figures["counted_bytes"] = sizes["codes"] + sizes["scales"] + sizes["floats"]
    beyond = sizes["codes"] + sizes["scales"] + sizes["floats"] - counted
    sites = sum(len(each.weights) for each in found.values())
    if not 0 <= beyond <= 2 * sites:
        verified.failures.append(f"{beyond:.0f} bytes beyond the stored footprint, not at most {2 * sites}")
    return verified


def add_sizes(verified: Verified, sizes: dict[str, int], given: Exporting) -> None:
    """Adds a file's bytes, beside those of the footprint and of float32."""
    size = verified.path.stat().st_size
    verified.figures |= {
        "file_bytes": size,
        "stored_footprint_bytes": measure(given.compressor, kind="stored").weight * MEGABIT / 8,
        "float32_bytes": 4 * given.compressor.parameter_count(),
    }
    verified.figures |= {f"{part}_bytes": each for part, each in sizes.items()}
    compressed = zstd_size(verified.path)
    if compressed is not None:
        verified.figures["zstd_bytes"] = compressed


def device_of(network: nn.Module) -> torch.device:
    """Where a network is."""
    return next((each.device for each in network.parameters()), torch.device("cpu"))
