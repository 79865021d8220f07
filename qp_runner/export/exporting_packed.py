"""Writes a task's networks as one packed file, and verifies it."""

import time
from pathlib import Path

from torch import nn

from qp_runner.export.comparison import Forward, compare
from qp_runner.export.contents import Contents
from qp_runner.export.loading import load_packed
from qp_runner.export.packed import save_packed
from qp_runner.export.subject import Exporting, add_sizes, laid_out_like
from qp_runner.export.verification import Verified, judge_packed

NAME = "packed.safetensors"


def export_packed(given: Exporting, found: dict[str, Contents], folder: Path) -> Verified:
    """Writes and verifies. Raises OSError."""
    path = folder / NAME
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
    forwards: dict[str, list[Forward]] = {name: [laid_out_like(each, networks[name])] for name, each in loaded.items()}
    judge_packed(verified, compare(task, networks, forwards), metric=task.metric, before=before)
    add_sizes(verified, sizes, given)
    counted = sizes["codes"] + sizes["scales"] + sizes["floats"]  # what the footprint counts
    verified.figures["counted_bytes"] = counted
    beyond = counted - verified.figures["stored_footprint_bytes"]
    sites = sum(len(each.weights) for each in found.values())
    if beyond > 2 * sites:
        verified.failures.append(f"{beyond:.0f} bytes beyond the stored footprint, not at most {2 * sites}")
    return verified
