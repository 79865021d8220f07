"""Points in training, kept exact until they are rounded to a step."""

import difflib
import math
import re
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, localcontext
from enum import StrEnum
from fractions import Fraction

from qp_runner.errors import ConfigError

EXAMPLES = "a time with its unit, such as 0.4dur, 230/250dur, 12ep or 300it"
_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?|\.\d+(?:[eE][+-]?\d{1,2})?"
_TIME = re.compile(
    rf"\s*(?P<sign>[+-]?)\s*(?P<over>{_NUMBER})\s*(?:/\s*(?P<under>{_NUMBER})\s*)?(?P<unit>[A-Za-z]+)\s*"
)


class Unit(StrEnum):
    """The unit of a time: the whole training, epochs or steps."""

    DUR = "dur"
    EP = "ep"
    IT = "it"


@dataclass(frozen=True)
class Time:
    """A point in training: an exact number of units after its start."""

    amount: Fraction
    unit: Unit

    @classmethod
    def parse(cls, text: object, *, key: str = "time") -> "Time":
        """Reads `0.40dur` (a part of training), `230/250dur`, `12.5ep` (epochs) or `300it` (steps).

        Raises ConfigError, naming `key`, for anything else: no unit, a negative time, part of a step.
        """
        found = _TIME.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(key, text, EXAMPLES)
        unit = _unit(found["unit"], key=key, text=text)
        if found["sign"] == "-":
            raise ConfigError(key, text, "a time from 0, the start of training")
        under = Fraction(found["under"] or 1)
        if under == 0:
            raise ConfigError(key, text, "a fraction over a number above 0")
        amount = Fraction(found["over"]) / under
        if unit is Unit.IT and amount.denominator != 1:
            raise ConfigError(key, text, "a whole number of steps; use ep or dur for parts")
        return cls(amount, unit)

    def position(self, *, total_steps: int, steps_per_epoch: int) -> Fraction:
        """The exact time, in steps, in a training of `total_steps`."""
        scale = {Unit.DUR: total_steps, Unit.EP: steps_per_epoch, Unit.IT: 1}
        return self.amount * scale[self.unit]

    def to_step(self, *, total_steps: int, steps_per_epoch: int) -> int:
        """The step before which something at this time happens: the nearest one, halves rounded up."""
        return nearest_step(self.position(total_steps=total_steps, steps_per_epoch=steps_per_epoch))

    def __str__(self) -> str:
        """As `parse` reads it: a decimal number where one is exact, otherwise a fraction."""
        return f"{_decimal(self.amount) or self.amount}{self.unit}"


def nearest_step(position: Fraction) -> int:
    """The whole number nearest to an exact position in steps, halves rounded up."""
    return math.floor(position + Fraction(1, 2))


def _unit(name: str, *, key: str, text: object) -> Unit:
    try:
        return Unit(name)
    except ValueError:
        aliases = {"epoch": "ep", "epochs": "ep", "step": "it", "steps": "it", "iter": "it", "duration": "dur"}
        close = aliases.get(name.lower()) or next(iter(difflib.get_close_matches(name.lower(), list(Unit), n=1)), None)
        hint = f"did you mean {close}?" if close else EXAMPLES
        raise ConfigError(key, text, f"units are dur, ep and it; {hint}") from None


def _decimal(amount: Fraction) -> str | None:
    """The exact decimal number, or None for one with more digits than anybody writes."""
    with localcontext(Context(prec=30, traps=[Inexact])):
        try:
            return f"{Decimal(amount.numerator) / amount.denominator:f}"
        except Inexact:
            return None
