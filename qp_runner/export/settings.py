"""What to export, and whether it can be done here."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from qp_runner.errors import ConfigError
from qp_runner.tasks import DetectionTask, Task

Format = Literal["packed", "onnx"]
NEEDED = ("onnx", "onnxruntime", "onnxscript", "onnx_ir")
"""Libraries of the extra `export`; a packed file needs none of them."""


@dataclass(frozen=True)
class ExportSettings:
    """What to write of a run.

    Attributes:
        formats: files to write.
        mode: of ONNX: `exact` keeps the arithmetic of training, `int8` is for integer kernels.
        branches: with `int8`, whether branches before sums are quantized too, which training did not do, and depthwise
            convolutions are integers, too.
        float_bias: with `int8`, whether biases are added in float, which is more exact (see `integer`).
        signed_weights: with `int8`, whether weights are int8 instead of uint8 (see `integer`); ONNX Runtime is slow
            with them where `float_bias` is on.
    """

    formats: Sequence[Format] = ()
    mode: Literal["exact", "int8"] = "exact"
    branches: bool = False
    float_bias: bool = True
    signed_weights: bool = False


def check_settings(settings: ExportSettings, *, key: str) -> None:
    """Raises ConfigError for what can't be exported here (of this key), or options that would change nothing."""
    if "onnx" not in settings.formats:
        return
    for name in ("branches", "float_bias", "signed_weights"):
        value = getattr(settings, name)
        if settings.mode == "exact" and value != getattr(ExportSettings, name):
            raise ConfigError(f"export.onnx.{name}", value, "an option of mode=int8; the mode is exact")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(key, "onnx", f"needs pip install 'qp_runner[export]' ({', '.join(missing)} missing)")


def check_task(settings: ExportSettings, task: Task, *, key: str) -> None:
    """Raises ConfigError, of this key, for a task that can't be exported."""
    if "onnx" in settings.formats and isinstance(task, DetectionTask):
        reason = "a detector chooses boxes by code without fixed shapes, which torch's exporter can't follow"
        raise ConfigError(key, "onnx", f"not for detection: {reason}; use packed")
