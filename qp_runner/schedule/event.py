"""One change to one target, and the rules that do not depend on the length of training."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import TypeVar

from qp_runner.errors import ConfigError
from qp_runner.schedule.time import Time

FLOAT_BITS = 32
"""Bits of a target that is not quantized."""

MIN_BITS, MAX_BITS = 2, 16
ROOT = "schedule.events"


class Op(StrEnum):
    """What an event does."""

    PRUNE = "prune"
    QUANTIZE = "quantize"


class Target(StrEnum):
    """What an event changes."""

    WEIGHT = "weight"
    ACTIVATION = "activation"


class Curve(StrEnum):
    """How sparsity rises along a ramp."""

    CUBIC = "cubic"
    LINEAR = "linear"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change to one target.

    Without `end` it fires once, at `start`. With `end` it is a ramp that fires `steps` times, evenly between `start`
    (exclusive) and `end` (inclusive); only pruning has ramps.

    Events of one time happen together, in an order of their own (masks, then scales); where the order matters, `rank`
    gives it: of events of one time, those of a lower rank come first, and the others see what they have made.

    Attributes:
        name: its key in the configuration, without further meaning.
        to: the sparsity in [0, 1) that pruning reaches, or the bits (2 to 16; 32 turns quantization off). Pruning to
            the current sparsity recomputes the masks; quantizing to the current bits calibrates again.
        rank: its place among events of the same time.

    Raises:
        ConfigError: a value that is not allowed. `Schedule` checks the rules between times.
    """

    name: str
    op: Op
    target: Target
    to: float
    start: Time
    end: Time | None = None
    steps: int = 1
    curve: Curve = Curve.CUBIC
    rank: int = 0

    def __post_init__(self) -> None:
        _check_to(self)
        if not _is_whole(self.steps) or self.steps < 1:
            raise self.error("steps", "a whole number from 1")
        if not _is_whole(self.rank) or self.rank < 0:
            raise self.error("rank", "a whole number from 0")
        if self.op == Op.QUANTIZE and self.end is not None:
            raise self.error("end", "quantization has no ramp: it happens at start (end: null)")
        if self.op == Op.QUANTIZE and self.steps > 1:
            raise self.error("steps", "quantization has no ramp: it happens in 1 step")
        if self.steps > 1 and self.end is None:
            raise self.error("steps", "several steps need an end, so that they have somewhere to go")

    @classmethod
    def from_config(cls, name: str, config: object) -> "Event":
        """Reads one entry of `schedule.events`: op, target, to, start and optionally end, steps, curve, rank.

        Raises ConfigError for unknown and missing keys and for bad values.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"{ROOT}.{name}", config, f"a mapping with op, target, to, start; to drop it: ~{ROOT}.{name}"
            )
        given = {str(key): value for key, value in config.items()}
        _check_keys(name, given)
        end = given.get("end")
        return cls(
            name=name,
            op=_choice(Op, name, "op", given["op"]),
            target=_choice(Target, name, "target", given["target"]),
            to=given["to"],  # checked in __post_init__
            start=Time.parse(given["start"], key=_key(name, "start")),
            end=None if end is None else Time.parse(end, key=_key(name, "end")),
            steps=given.get("steps", 1),  # checked in __post_init__
            curve=_choice(Curve, name, "curve", given.get("curve", Curve.CUBIC)),
            rank=given.get("rank", 0),  # checked in __post_init__
        )

    def error(self, field: str, allowed: str) -> ConfigError:
        """An error about one of this event's fields."""
        return ConfigError(_key(self.name, field), getattr(self, field), allowed)


def _check_to(event: Event) -> None:
    to: object = event.to
    if event.op == Op.PRUNE:
        allowed = "a sparsity from 0 to below 1, as a number"
        if isinstance(to, bool) or not isinstance(to, int | float) or not 0 <= to < 1:
            raise event.error("to", allowed)
    elif not _is_whole(to) or not (MIN_BITS <= event.to <= MAX_BITS or event.to == FLOAT_BITS):
        raise event.error("to", f"whole bits from {MIN_BITS} to {MAX_BITS}, or {FLOAT_BITS} for off")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _key(name: str, field: str) -> str:
    return f"{ROOT}.{name}.{field}"


def _check_keys(name: str, given: Mapping[str, object]) -> None:
    """Refuses unknown keys, then missing ones."""
    keys = {field.name: field.default is MISSING for field in fields(Event) if field.name != "name"}
    for key, value in given.items():
        if key not in keys:
            raise ConfigError(_key(name, key), value, f"unknown key; {_suggest(key, list(keys))}")
    for key, needed in keys.items():
        if needed and key not in given:
            raise ConfigError(_key(name, key), "(missing)", "every event needs op, target, to and start")


Kind = TypeVar("Kind", bound=StrEnum)


def _choice(kind: type[Kind], name: str, field: str, value: object) -> Kind:
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    raise ConfigError(_key(name, field), value, _suggest(str(value), list(kind)))


def _suggest(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    listed = f"one of {', '.join(known)}"
    return f"{listed}; did you mean {close[0]}?" if close else listed
