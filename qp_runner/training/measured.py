"""What compression is in force, in numbers for records and in words for progress."""

from collections.abc import Mapping

from qp_runner.compress import Compressor
from qp_runner.schedule import Stage, Target


def compression_state(compressor: Compressor) -> Mapping[str, float]:
    """The measured sparsity and bits of both targets, under their record names."""
    values: dict[str, float] = {}
    for target in Target:
        values[f"compress/sparsity_{target}"] = compressor.sparsity(target)
        values[f"compress/bits_{target}"] = float(compressor.bits(target))
    return values


def describe_stage(stage: Stage) -> str:
    """Both targets of a stage, such as `w 50%·8b f float`."""

    def target(state_of: Target) -> str:
        state = stage.state(state_of)
        parts = [f"{state.sparsity:.0%}"] if state.sparsity else []
        return "·".join(parts + ([f"{state.bits}b"] if state.bits < 32 else [])) or "float"

    return f"w {target(Target.WEIGHT)} f {target(Target.ACTIVATION)}"
