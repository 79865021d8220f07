"""Jobs of a process that can share one captured step."""

from typing import Any

from qp_runner.config import Config
from qp_runner.training import SharedStep
from qp_runner.training.identity import digest

NOT_IN_STEP: dict[str, set[str]] = {
    "trainer": {"epochs", "lr_schedule", "warmup", "evaluate_every", "early_stop", "ema", "progress", "save_model"},
    "model": {"init", "init_compression", "init_skip", "weights"},
    "compress": {"footprint", "calibration", "quantiles"},
}
"""Keys that change values or what is done between steps, but no step. The optimizer's `lr` is one more."""


class LastStep:
    """The captured step of this process's last job; kept only until a job comes whose step is another."""

    def __init__(self) -> None:
        self._key, self._shared = "", SharedStep()

    def of(self, config: Config) -> SharedStep:
        """Where a job with this configuration leaves its step and may find an equal one."""
        key = step_key(config)
        if key != self._key:
            self._key, self._shared = key, SharedStep()
        return self._shared


def step_key(config: Config) -> str:
    """Equal for two configurations if their captured steps differ in values on the device only.

    But for what their jobs draw when they are built, or find in files: `SharedStep.take` compares what was built.
    """
    plain = config.model_dump()
    decides: dict[str, Any] = {"task": plain["task"], "data": plain["data"]}
    for section, out in NOT_IN_STEP.items():
        decides[section] = {key: value for key, value in plain[section].items() if key not in out}
    decides["trainer"]["optimizer"] = {k: v for k, v in plain["trainer"]["optimizer"].items() if k != "lr"}
    return digest(decides)
