"""Errors that show only when a network runs; each names the configuration key to change."""

from torch import nn

from qp_runner.errors import ConfigError


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


def not_a_tensor(site: str, module: nn.Module, output: object) -> ConfigError:
    """The error for an activation site whose module does not return one tensor."""
    allowed = f"must return one tensor, but this {type(module).__name__} returns a {type(output).__name__}"
    return ConfigError("model.sites.activation", site, allowed)


def never_called(site: str) -> ConfigError:
    """The error for an activation site whose module is never called, or only with empty batches."""
    return ConfigError(
        "model.sites.activation",
        site,
        "takes no part in the network's forward pass, or has nothing to do in it; leave it out",
    )
