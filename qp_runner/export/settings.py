"""What to export, and whether it can be done here."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from qp_runner.errors import ConfigError

Format = Literal["packed", "onnx"]
NEEDED = ("onnx", "onnxruntime", "onnxscript", "onnx_ir")
"""Libraries of the extra `export`; a packed file needs none of them."""


@dataclass(frozen=True)
class ExportSettings:
    """What to write of a run.

    Attributes:
        formats: files to write.
        mode: of ONNX: `exact` keeps the arithmetic of training, `int8` is for integer kernels.
        branches: with `int8`, whether branches before sums are quantized too, which training did not do.
        signed_weights: with `int8`, whether weights are int8 instead of uint8 (see `integer`).
    """

    formats: Sequence[Format] = ()
    mode: Literal["exact", "int8"] = "exact"
    branches: bool = False
    signed_weights: bool = False


def check_export(settings: ExportSettings, *, task: str, key: str = "format") -> None:
    """Raises ConfigError, of this key, for what can't be exported here."""
    if "onnx" not in settings.formats:
        return
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(key, "onnx", f"needs pip install 'qp_runner[export]' ({', '.join(missing)} missing)")
    if task == "detection":
        reason = "a detector's boxes are chosen by code that has no fixed shapes, which ONNX's exporter can't follow"
        raise ConfigError(key, "onnx", f"not for detection: {reason}; packed holds it")
