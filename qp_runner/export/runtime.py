"""ONNX Runtime: sessions of one thread, and what they make of a graph."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
CONVOLUTIONS = {"Conv", "FusedConv", "QLinearConv", "ConvInteger", "NhwcConv", "NhwcFusedConv"}
INTEGER = {"QLinearConv", "ConvInteger", "QGemm", "MatMulInteger", "QLinearMatMul"}


def session(
    path: Path, *, optimised: bool = True, threads: int = 1, kept: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session on the processor. `kept` takes the graph as the runtime has changed it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if kept is not None:
        options.optimized_model_filepath = str(kept)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def call(of: onnxruntime.InferenceSession, inputs: Sequence[Array]) -> list[Array]:
    """The outputs for a batch."""
    names = [each.name for each in of.get_inputs()]
    outputs: list[Array] = of.run(None, dict(zip(names, inputs, strict=True)))
    return outputs


def kernels(path: Path) -> Counter[str]:
    """How often the runtime uses each operation, after its optimisations."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "optimised.onnx"
        session(path, kept=changed)
        return Counter(node.op_type for node in onnx.load(changed).graph.node)


def integer_convolutions(counts: Counter[str]) -> tuple[int, int]:
    """Convolutions that run as integers, and all."""
    integer = counts["QLinearConv"] + counts["ConvInteger"]
    return integer, integer + sum(count for name, count in counts.items() if name in CONVOLUTIONS) - integer


def flat(outputs: Sequence[Array]) -> Array:
    """All outputs of a batch as one row for each sample."""
    return np.concatenate([np.asarray(each).reshape(len(each), -1) for each in outputs], axis=1)
