"""What is exported, and what its files have in common."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from qp_runner.compress import Compressor, measure
from qp_runner.compress.footprint import MEGABIT
from qp_runner.export.machine import zstd_size
from qp_runner.export.verification import Verified
from qp_runner.tasks import Task


@dataclass(frozen=True)
class Exporting:
    """What is exported.

    Attributes:
        task: with its data and trained networks, on the CPU.
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


def laid_out_like(network: nn.Module, other: nn.Module) -> nn.Module:
    """The network in another one's memory layout, which decides the order of sums."""
    example = next((each for each in other.parameters() if each.ndim == 4 and not each.is_contiguous()), None)
    if example is not None and example.is_contiguous(memory_format=torch.channels_last):
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
