"""Networks from their configuration, and the compressor around them: for runs and for whoever loads one."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from qp_runner.compress import Compressor, Settings, SiteSelection
from qp_runner.config import Config
from qp_runner.config.instantiate import instantiate
from qp_runner.config.schema import Globs, SitesSection

PLAIN = bool | int | float | str | None


class NetworkFactory(partial[nn.Module]):
    """A configured network to be built: a partial that remembers what else it was called with.

    A task gives it what the data decides, such as the number of classes; with `given`, the same network can be built
    later without task and data.
    """

    given: dict[str, Any] | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> nn.Module:
        """The network."""
        self.given = None if args else dict(kwargs)
        return super().__call__(*args, **kwargs)


def network_factories(config: Config) -> dict[str, NetworkFactory]:
    """`model.networks` by name. Raises ConfigError for what can't be imported."""
    made = {}
    for name, factory in config.model.networks.items():
        plain = instantiate(f"model.networks.{name}", {**factory, "_partial_": True})
        made[name] = NetworkFactory(plain.func, *plain.args, **plain.keywords)
    return made


def given(factories: Mapping[str, NetworkFactory]) -> dict[str, dict[str, Any]] | None:
    """By network, what a task built it with in addition to its configuration; None if that is no plain data."""
    known: dict[str, dict[str, Any]] = {}
    for name, factory in factories.items():
        if factory.given is None or not all(isinstance(value, PLAIN) for value in factory.given.values()):
            return None
        known[name] = factory.given
    return known


def attach_compressor(
    config: Config,
    networks: Mapping[str, nn.Module],
    *,
    run: Callable[[], None],
    pair: Callable[[], None] | None = None,
) -> Compressor:
    """The compressor, attached to networks, shapes already known.

    Args:
        config: says which sites, and how they are compressed.
        networks: by name.
        run: a forward pass of one sample.
        pair: one of two samples.
    """
    section = config.compress
    compressor = Compressor(
        networks,
        sites=selection(config.model.sites),
        settings=Settings(
            scale=section.scale,
            granularity=section.granularity,
            quantiles=None if section.quantiles is None else (section.quantiles[0], section.quantiles[1]),
        ),
        run=run,
        pair=pair,
    )
    compressor.trace(run, pair=pair)
    return compressor


def selection(section: SitesSection) -> SiteSelection:
    """Which tensors are sites, from `model.sites`."""

    def globs(given: Globs) -> tuple[str, ...] | None:
        return None if given == "auto" else tuple(given)

    return SiteSelection(
        globs(section.weight),
        globs(section.activation),
        None if section.spares_the_ends else globs(section.unpruned or []),
        frozen=section.frozen,
        exclude=tuple(section.exclude),
        bits=section.bits,
    )
