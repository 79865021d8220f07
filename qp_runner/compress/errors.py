"""The mistakes that only show when a network runs, each told as the configuration key that is to blame."""

from torch import nn

from qp_runner.errors import ConfigError


class CalibrationError(RuntimeError):
    """The values that a scale or mask should be chosen from can't be used; the message names the site."""

    def __init__(self, site: str) -> None:
        super().__init__(f"site {site}: NaN or infinite values in calibration; training has diverged (lower the lr?)")
        self.site = site

    def __reduce__(self) -> tuple[type["CalibrationError"], tuple[str]]:
        return type(self), (self.site,)


def wrong_shape(site: str, was: tuple[int, ...], now: tuple[int, ...]) -> ConfigError:
    """An element-wise mask meets a sample of another shape."""
    return ConfigError(
        "compress.granularity",
        "element",
        f"site {site} has samples of shape {list(was)} and of {list(now)}, but single elements are masked in one shape "
        "alone: set compress.granularity=channel",
    )


def not_a_tensor(site: str, module: nn.Module, output: object) -> ConfigError:
    """A module picked as an activation site returns something else than one tensor."""
    allowed = f"must return one tensor, but this {type(module).__name__} returns a {type(output).__name__}"
    return ConfigError("model.sites.activation", site, allowed)


def never_called(site: str) -> ConfigError:
    """A module picked as an activation site takes no part in the forward pass, or is handed empty batches alone."""
    return ConfigError(
        "model.sites.activation",
        site,
        "takes no part in the network's forward pass, or has nothing to do in it; leave it out",
    )
