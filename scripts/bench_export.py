"""Exports finished runs in every way and prints what came out, as CSV: sizes, agreement on the test set, integer
kernels, milliseconds beside the float network in the same process, what OpenVINO makes of the same files, and what the
masks of activations cost (the int8 file against the same one without masks). `without_onednn` is torch beside itself,
its convolutions added up in another order: what no file can be blamed for.
"""

import argparse
import csv
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from qp_runner.config import validate
from qp_runner.export.comparison import compare
from qp_runner.export.contents import Contents, contents
from qp_runner.export.exporting import export
from qp_runner.export.machine import milliseconds, processor
from qp_runner.export.onnx_file import NetworkToExport, save_onnx
from qp_runner.export.runtime import call, session
from qp_runner.export.settings import ExportSettings
from qp_runner.export.subject import Exporting
from qp_runner.export.usage import as_numpy, calibrating
from qp_runner.run.evaluation import restored
from qp_runner.run.exported import on_processor
from qp_runner.run.loading import rebuilt
from qp_runner.run.model_file import read_model_file

BATCH = 50
WAYS = (
    ExportSettings(("packed",)),
    ExportSettings(("onnx",)),
    ExportSettings(("onnx",), "int8"),
    ExportSettings(("onnx",), "int8", signed_weights=True),
    ExportSettings(("onnx",), "int8", branches=True),
    ExportSettings(("onnx",), "int8", float_bias=False),
)


def main() -> None:
    """Exports each run; prints a row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished classification runs")
    parser.add_argument("--samples", type=int, help="use this many test images, from the first on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnx", "onnxruntime", "onnxscript"))
    print(f"# {processor()}, one thread; {libraries}", file=sys.stderr)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["run", "file", "figure", "value"])
    for run in args.runs:
        for file, figures in measured(run, args.samples).items():
            writer.writerows([run.name, file, name, f"{value:.6g}"] for name, value in figures.items())
            sys.stdout.flush()


def measured(run: Path, samples: int | None) -> dict[str, dict[str, float]]:
    """The figures of a run's files, by file, on this many test images."""
    file = read_model_file(run, key="run")
    config = on_processor(validate(file.about.config))
    task, compressor = restored(config, file)
    task.data = replace(task.data, test=task.data.test.take(slice(samples)))
    given = Exporting(task, compressor, lambda name: rebuilt(config, file.about.given)[name])
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            for verified in export(given, Path(folder), way):
                name = verified.path.name
                found[name] = dict(verified.figures) | {"verified": float(not verified.failures)}
                if verified.path.suffix == ".onnx":
                    found[name] |= in_openvino(given, verified.path)
        found["masks"] = masks(given, Path(folder))
    found["without_onednn"] = without_onednn(given)
    return found


def without_onednn(given: Exporting) -> dict[str, float]:
    """Agreement of the network with itself, computed by torch's own convolutions in the place of oneDNN's."""
    [(name, network)] = given.networks.items()
    baked = given.compressor.bake(network).eval()

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.backends.mkldnn.flags(enabled=False):
            return baked(x)

    agreement = compare(given.task, {name: network}, {name: [run]}).network
    return {"top1_agreement": agreement.top1 or 0.0, "equal_outputs": agreement.share_equal}


def in_openvino(given: Exporting, path: Path) -> dict[str, float]:
    """Agreement of OpenVINO with the network, and its time for a batch."""
    if find_spec("openvino") is None:
        return {}
    import openvino

    compiled: Any = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    [(name, network)] = given.networks.items()
    run = lambda x: [torch.from_numpy(compiled([x.numpy()])[compiled.output(0)])]  # noqa: E731
    compared = compare(given.task, {name: network}, {name: [run]})
    x = calibrating(given.task, given.networks, samples=BATCH, batch_size=BATCH)[name].inputs[0][0].numpy()
    [taken] = milliseconds([lambda: compiled([x])])
    agreement = compared.network
    return {"openvino_top1_agreement": agreement.top1 or 0.0, "openvino_mean": agreement.mean, "openvino_ms": taken}


def masks(given: Exporting, folder: Path) -> dict[str, float]:
    """The time of the int8 file with and without masks of activations."""
    [(name, network)] = given.networks.items()
    inputs = calibrating(given.task, given.networks, samples=BATCH, batch_size=BATCH)[name].inputs
    own = contents(given.compressor, network)
    paths = []
    for number, each in enumerate((own, without_masks(own))):
        paths.append(folder / f"masks{number}.onnx")
        to_export = NetworkToExport(network, given.compressor, each, inputs[0], (), inputs)
        save_onnx(paths[-1], to_export, ExportSettings(("onnx",), "int8", branches=True))
    x = as_numpy(inputs[0])
    sessions = [session(path) for path in paths]
    with_masks, without = milliseconds([lambda s=s: call(s, x) for s in sessions])
    return {"with_ms": with_masks, "without_ms": without, "ratio": with_masks / without, "batch": float(len(x[0]))}


def without_masks(of: Contents) -> Contents:
    """The same network with the masks of activations left out."""
    outputs = {name: replace(each, mask=None) for name, each in of.outputs.items()}
    return replace(of, outputs=outputs, calls={place: replace(each, mask=None) for place, each in of.calls.items()})


if __name__ == "__main__":
    main()
