"""Tables from the kept files of measurements: a step's cost, exported files, kills."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from qp_runner.report.markdown import table
from qp_runner.report.words import number

LIBRARIES = {"torch_qat": "PyTorch's own quantization-aware training", "brevitas": "Brevitas"}
FILES = {
    "packed.safetensors": "packed",
    "model.onnx": "ONNX exact",
    "model.int8.onnx": "ONNX int8",
    "model.int8-signed_weights.onnx": "ONNX int8, int8 weights",
    "model.int8-branches.onnx": "ONNX int8, branches",
    "model.int8-integer_bias.onnx": "ONNX int8, integer biases",
}


def steps(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """A step of each library, executor and variant, beside the float step of the same executor."""
    read = pd.read_csv(paths[0])
    plain = read[read["variant"] == "float"].set_index(["executor", "precision"])["seconds"]
    heads = ["library", "executor, precision", "variant", "ms a step", "images/s", "× float"]
    lines = []
    for _, row in read.iterrows():
        base = plain.get((row["executor"], row["precision"]))
        ratio = "" if base is None else f"{row['seconds'] / base:.2f}"
        set_up = " → ".join(f"{row[name]:.1f}" for name in ("setup_s", "again_s") if pd.notna(row[name]))
        lines.append(
            [
                LIBRARIES.get(row["library"], row["library"]),
                f"{row['executor']}, {row['precision']}",
                row["variant"],
                f"{1000 * row['seconds']:.2f}",
                f"{row['images_per_s']:,.0f}",
                ratio,
                set_up,
                "–" if pd.isna(row["events_s"]) else f"{row['events_s']:.2f}",
                "–" if pd.isna(row["peak_mb"]) else f"{row['peak_mb']:,.0f}",
            ]
        )
    return table([*heads, "set-up first → again, s", "events, s", "peak, MB"], lines)


def ratios(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """The step with everything active beside the float step, a row a process, and the range of their ratio."""
    seconds = pd.read_csv(paths[0]).pivot_table(index="process", columns="variant", values="seconds")
    found = seconds["both"] / seconds["float"]
    lines = [
        [str(process), f"{1000 * row['float']:.3f}", f"{1000 * row['both']:.3f}", f"{found[process]:.3f}"]
        for process, row in seconds.iterrows()
    ]
    text = table(["process", "float, ms a step", "both, ms a step", "ratio"], lines)
    met = int((found <= 1.13).sum())
    return (
        f"{text}\n\nWith everything active a step costs {found.median():.2f} × the float step ({found.min():.3f} to "
        f"{found.max():.3f}): a target of at most 1.13 is met in {met} of {len(found)} processes, and by no margin."
    )


def exported(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """Exported files: size, agreement with the network, times."""
    read = pd.read_csv(paths[0]).pivot_table(index="file", columns="figure", values="value", sort=False)
    heads = ["file", "MB", "zstd, MB", "same class", "equal outputs", "accuracy", "integer convolutions"]
    lines = []
    for file in (each for each in FILES if each in read.index):
        row, name = read.loc[file], FILES[file]
        runs = pd.notna(row["ms"])
        lines.append(
            [
                name,
                f"{row['file_bytes'] / 1e6:.3f}",
                f"{row['zstd_bytes'] / 1e6:.3f}",
                f"{100 * row['top1_agreement']:.2f} %",
                f"{100 * row['equal_outputs']:.1f} %",
                f"{row['accuracy']:.1f} %",
                f"{row['integer_convolutions']:.0f} of {row['convolutions']:.0f}" if runs else "–",
                f"{row['ms']:.0f} / {row['float_ms']:.0f}" if runs else "–",
                f"{100 * row['openvino_top1_agreement']:.2f} %" if runs else "–",
            ]
        )
    before, masks = number(read.loc["packed.safetensors", "accuracy_before"]), read.loc["masks"]
    itself = read.loc["without_onednn"]
    text = table([*heads, "ms / float ms", "OpenVINO: same class"], lines)
    return (
        f"{text}\n\nThe network itself: {before} %; computed by torch without oneDNN: same class "
        f"{100 * itself['top1_agreement']:.2f} %, equal outputs {100 * itself['equal_outputs']:.1f} %. Masks of "
        f"activations cost {100 * (masks['ratio'] - 1):.1f} % of the int8 file's time ({masks['with_ms']:.1f} against "
        f"{masks['without_ms']:.1f} ms)."
    )


def tries(paths: Sequence[Path], _folder: Path, _draw: bool) -> str:
    """What was tried how often, and how often something was lost, duplicated or stuck."""
    read = pd.read_csv(paths[0])
    lines = []
    for (commit, what), some in read.groupby(["commit", "what"], sort=False):
        lost = int(some["lost"].notna().sum())
        lines.append([what, commit, str(len(some)), str(len(some) - lost), str(lost)])
    return table(["what", "commit", "tried", "survived", "lost, duplicated or stuck"], lines)
