"""An exported file is loaded again and measured beside the network that it came from; here is what must hold.

What is accepted: a packed file gives the same outputs to the last bit. ONNX in `exact` mode finds the same classes, but
for ties: a runtime adds up the first layer's products in another order, so a value in ten thousand may round to the
neighbouring code. `int8` adds biases with other roundings, or as whole numbers; `branches` adds quantizers that
training did not have.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qp_runner.export.comparison import Agreement, Compared
from qp_runner.export.settings import ExportSettings
from qp_runner.metric import Metric

RUNS_DIFFER = 0.02
"""The largest mean difference between outputs with and without a runtime's optimisations."""


@dataclass(frozen=True)
class Tolerance:
    """The least share of samples with the same class, and the largest difference of the metric, in its unit."""

    top1: float
    metric: float


EXACT, INT8, BRANCHES = Tolerance(0.999, 0.1), Tolerance(0.99, 0.5), Tolerance(0.985, 0.75)


@dataclass
class Verified:
    """A file's figures.

    Attributes:
        path: of the file.
        kind: `packed`, `onnx exact`, `onnx int8`, `onnx int8 branches`.
        figures: by name, for records; numbers alone.
        notes: by name, what else the table says.
        failures: what does not hold, in words.
    """

    path: Path
    kind: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {"file": self.path.name, "kind": self.kind, "figures": self.figures, "failures": self.failures} | (
            {"notes": self.notes} if self.notes else {}
        )


def kind_of(settings: ExportSettings) -> str:
    """What a file of ONNX is called."""
    return f"onnx {settings.mode}" + "".join(f" {each.replace('_', ' ')}" for each in variants(settings))


def variants(settings: ExportSettings) -> list[str]:
    """The options that make another file of int8 numbers."""
    options = {
        "branches": settings.branches,
        "integer_bias": not settings.float_bias,
        "signed_weights": settings.signed_weights,
    }
    return [name for name, chosen in options.items() if chosen and settings.mode == "int8"]


def judge_packed(verified: Verified, compared: Compared, *, metric: Metric, before: float) -> None:
    """Adds the comparison of a packed file."""
    _compared(verified, compared.network)
    _metric(verified, metric, before=before, after=compared.figures[metric.name])
    if compared.network.share_equal < 1:
        verified.failures.append(f"outputs differ by up to {compared.network.largest:.3g}")


def judge_onnx(
    verified: Verified, compared: Compared, *, metric: Metric, before: float, settings: ExportSettings
) -> None:
    """Adds the comparison of an ONNX file."""
    allowed = EXACT if settings.mode == "exact" else BRANCHES if settings.branches else INT8
    _compared(verified, compared.network)
    _metric(verified, metric, before=before, after=compared.figures[metric.name])
    verified.figures["optimised_mean_difference"] = compared.runs.mean
    top1 = compared.network.top1
    if top1 is not None and top1 < allowed.top1:
        verified.failures.append(f"the same class for {top1:.2%} of samples, not for {allowed.top1:.1%}")
    change = abs(compared.figures[metric.name] - before)
    if not change <= allowed.metric:
        verified.failures.append(f"{metric.name} differs by {change:.3g}, not by at most {allowed.metric}")
    if not compared.runs.mean <= RUNS_DIFFER:
        verified.failures.append(
            f"outputs with and without optimisations differ by {compared.runs.mean:.3g} on average"
        )


def _compared(verified: Verified, agreement: Agreement) -> None:
    if agreement.top1 is not None:
        verified.figures |= {"top1_agreement": agreement.top1, "top1_ties": agreement.ties}
    verified.figures |= {
        "equal_outputs": agreement.share_equal,
        "largest_difference": agreement.largest,
        "mean_difference": agreement.mean,
    }


def _metric(verified: Verified, metric: Metric, *, before: float, after: float) -> None:
    verified.figures |= {metric.name: after, f"{metric.name}_before": before}
