"""Writes a task's networks as ONNX files, one each, and verifies them together."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from qp_runner.export.comparison import Compared, Forward, compare
from qp_runner.export.contents import Contents
from qp_runner.export.machine import milliseconds, processor
from qp_runner.export.onnx_file import NetworkToExport, save_onnx, sections
from qp_runner.export.runtime import call, integer_convolutions, kernels, session
from qp_runner.export.settings import ExportSettings
from qp_runner.export.subject import Exporting, add_sizes
from qp_runner.export.usage import Usage, as_numpy, calibrating, free_sizes, watched
from qp_runner.export.verification import Verified, judge_onnx, kind_of, variants

CALIBRATION, BATCH = 256, 64  # samples for the scales of branches


def export_onnx(given: Exporting, found: dict[str, Contents], folder: Path, settings: ExportSettings) -> list[Verified]:
    """Writes and verifies. Raises ExportError, OSError."""
    task, networks = given.task, given.networks
    trained = calibrating(task, networks, samples=CALIBRATION, batch_size=BATCH)
    with watched(networks) as tested:
        before = task.evaluate("test")[task.metric.name]
    paths = {name: folder / file_name(name, several=len(networks) > 1, settings=settings) for name in networks}
    floats = {name: folder / f"float{number}.onnx" for number, name in enumerate(networks)}
    for name, path in paths.items():
        free = free_sizes(trained[name], tested[name])
        to_export = NetworkToExport(
            networks[name], given.compressor, found[name], trained[name].pair(), free, trained[name].inputs
        )
        save_onnx(path, to_export, settings, float_path=floats[name])
    compared = compare(task, networks, {name: _runs(path) for name, path in paths.items()})
    return [
        _verified(given, path, compared, before=before, settings=settings, float_path=floats[name], usage=tested[name])
        for name, path in paths.items()
    ]


def file_name(network: str, *, several: bool, settings: ExportSettings) -> str:
    """`model.onnx`, `model.int8.onnx`, `model.int8-branches.onnx`; in place of `model` a network's name if several."""
    kind = "" if settings.mode == "exact" else "-".join([".int8", *variants(settings)])
    return f"{network if several else 'model'}{kind}.onnx"


def _runs(path: Path) -> list[Forward]:
    """What computes a network's outputs: the runtime with and without its optimisations."""

    def forward(optimised: bool) -> Forward:
        runner = session(path, optimised=optimised)

        def run(*args: Any) -> Any:
            return [torch.from_numpy(each) for each in call(runner, as_numpy(args))]

        return run

    return [forward(True), forward(False)]


def _verified(
    given: Exporting,
    path: Path,
    compared: Compared,
    *,
    before: float,
    settings: ExportSettings,
    float_path: Path,
    usage: Usage,
) -> Verified:
    verified = Verified(path, kind_of(settings))
    judge_onnx(verified, compared, metric=given.task.metric, before=before, settings=settings)
    add_sizes(verified, sections(path), given)
    counts: Counter[str] = kernels(path)
    integer, convolutions = integer_convolutions(counts)
    verified.figures |= {"integer_convolutions": float(integer), "convolutions": float(convolutions)}
    inputs = as_numpy(usage.inputs[0])
    own, plain = session(path), session(float_path)
    own_ms, plain_ms = milliseconds([lambda: call(own, inputs), lambda: call(plain, inputs)])
    verified.figures |= {"ms": own_ms, "float_ms": plain_ms, "batch": float(len(inputs[0]))}
    verified.notes["processor"] = processor()
    return verified
