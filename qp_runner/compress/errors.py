"""Errors that show only when a network runs; each names the configuration key to change."""

from qp_runner.errors import ConfigError
from qp_runner.schedule import Target


class CalibrationError(RuntimeError):
    """The values for a scale or mask are not finite; the message names the site."""

    def __init__(self, site: str) -> None:
        super().__init__(f"site {site}: NaN or infinite values in calibration; training has diverged (lower the lr?)")
        self.site = site

    def __reduce__(self) -> tuple[type["CalibrationError"], tuple[str]]:
        return type(self), (self.site,)


def wrong_shape(site: str, was: tuple[int, ...], now: tuple[int, ...]) -> ConfigError:
    """The error for an element-wise mask and a sample of another shape."""
    return ConfigError(
        "compress.granularity",
        "element",
        f"site {site} has samples of shape {list(was)} and of {list(now)}, but single elements are masked in one shape "
        "alone: set compress.granularity=channel",
    )


def no_values(site: str, target: Target) -> ConfigError:
    """The error for a quantize event when all of a site's values are zero: any scale would be as good, and once values
    come they would be rounded to zero or clamped.
    """
    return ConfigError(
        f"model.sites.{target}",
        site,
        f"has only zeros when its quantize event fires, so no scale can be chosen; let the event (quantize, {target}) "
        "start later, or leave the site out",
    )


def not_a_tensor(site: str, output: object) -> ConfigError:
    """The error for an activation site at a call that returns no tensor, nor a tuple that begins with one."""
    allowed = f"must return a tensor, or a tuple that begins with one, but returns a {type(output).__name__}"
    return ConfigError("model.sites.activation", site, allowed)


def never_called(site: str) -> ConfigError:
    """The error for an activation site whose module is never called, or only with empty batches."""
    return ConfigError(
        "model.sites.activation",
        site,
        "takes no part in the network's forward pass, or has nothing to do in it; leave it out",
    )
