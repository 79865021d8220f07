"""Errors that show only when a network runs; each names the configuration key to change."""

from collections.abc import Sequence
from typing import Literal

from qp_runner.errors import ConfigError
from qp_runner.schedule import Target

Granularity = Literal["element", "channel"]


class CalibrationError(RuntimeError):
    """The values for a scale or mask are not finite; the message names the site."""

    def __init__(self, site: str) -> None:
        super().__init__(f"site {site}: NaN or infinite values in calibration; training has diverged (lower the lr?)")
        self.site = site

    def __reduce__(self) -> tuple[type["CalibrationError"], tuple[str]]:
        return type(self), (self.site,)


def wrong_shape(
    site: str, granularity: Granularity, shapes: Sequence[tuple[int, ...]], *, calls: int = 1
) -> ConfigError:
    """The error for a mask and samples that it does not fit.

    Args:
        site: its path.
        granularity: the setting.
        shapes: of the samples (or of the mask), each once.
        calls: how often the site's module is called in a forward pass.
    """
    called = f"is called {calls} times in a forward pass and" if calls > 1 else ""
    listed = " and of ".join(str(list(shape)) for shape in shapes)
    why = f"site {site} {called} has samples of shape {listed}, but"
    if granularity == "element" and len({shape[:1] for shape in shapes}) == 1:
        why += " single elements are masked in one shape alone: set compress.granularity=channel"
    else:
        why += " a mask is for one number of channels: give each call a module of its own, or name it in "
        why += "model.sites.unpruned"
    return ConfigError("compress.granularity", granularity, why)


def infinite_output(site: str) -> ConfigError:
    """The error for an activation site with infinite values, none of them NaN."""
    return ConfigError(
        "model.sites.activation",
        site,
        f"infinite output of {site}: masked attention scores, for example, are infinite by design; leave it out",
    )


def no_sample(site: str, shape: Sequence[int]) -> ConfigError:
    """The error for an activation site whose output has no batch dimension, or no elements."""
    what = f"has no elements (shape {list(shape)})" if shape else "is a single number without a batch dimension"
    return ConfigError("model.sites.activation", site, f"{what}; leave it out")


def lost_write(site: str) -> ConfigError:
    """The error for a weight that the forward pass itself changes."""
    return ConfigError(
        "model.sites.weight",
        site,
        "is written to during a forward pass; that would be lost once it is compressed, since the module then computes "
        "its weight: write between steps, to the Parameter that named_parameters() gives, or leave the site out",
    )


def single_sample(path: str) -> ConfigError:
    """The error for a norm in training mode that sees one value for each channel."""
    return ConfigError(
        "model.networks",
        path,
        "normalises over the batch alone, so in training mode one sample is too few: set trainer.batch_size to 2 or "
        "more, and let Task.infer leave the network in evaluation mode",
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
