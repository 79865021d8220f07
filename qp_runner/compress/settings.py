"""A user's settings for compression, apart from the schedule."""

from dataclasses import dataclass

from qp_runner.compress.calibration import ScaleKind
from qp_runner.compress.errors import Granularity
from qp_runner.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How masks and scales are computed (configuration group `compress`).

    Attributes:
        scale: `power_of_two` (2^−d) or `float` (any positive number).
        granularity: of activation masks: single elements of a sample, or whole channels.
        quantiles: lower and upper quantile that calibration data are clipped to (saturated quantization), or None.
        sample_limit: activation values kept for each site while its scale is chosen.
    """

    scale: ScaleKind = "power_of_two"
    granularity: Granularity = "element"
    quantiles: tuple[float, float] | None = None
    sample_limit: int = 2**18

    def __post_init__(self) -> None:
        if self.scale not in ("power_of_two", "float"):
            raise ConfigError("compress.scale", self.scale, "power_of_two or float")
        if self.granularity not in ("element", "channel"):
            raise ConfigError("compress.granularity", self.granularity, "element or channel")
        if self.quantiles is not None and not 0 <= self.quantiles[0] < self.quantiles[1] <= 1:
            raise ConfigError("compress.quantiles", self.quantiles, "two numbers in [0, 1], the lower one first")
        if self.sample_limit < 64:
            raise ConfigError("compress.sample_limit", self.sample_limit, "at least 64")
