"""What a search may choose from: ranges, as optuna's distributions, and their values as overrides."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qp_runner.config import RangeSection
from qp_runner.config.search import Scalar

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PLAIN = re.compile(r"[A-Za-z_][\w/.-]*")
WORDS = {"true", "false", "null", "inf", "nan"}  # which Hydra does not read as text


@dataclass(frozen=True)
class Space:
    """The ranges of a search, by override key."""

    ranges: Mapping[str, RangeSection]

    def distributions(self) -> dict[str, "BaseDistribution"]:
        """For optuna, in the order in which they were written."""
        return {key: distribution(each) for key, each in self.ranges.items()}

    def texts(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The exact values of a suggestion, as on a command line: `{"….start": "0.65dur"}`."""
        return {key: text(each, params[key]) for key, each in self.ranges.items()}

    def ends(self) -> dict[str, list[str]]:
        """By key, the values that show whether all are allowed: both ends, or every choice."""
        return {
            key: [text(each, value) for value in (each.choices if each.choices is not None else (each.low, each.high))]
            for key, each in self.ranges.items()
        }

    def times(self) -> list[str]:
        """All values of the ranges of times; ranges without steps, which have no end of values, are left out."""
        return [
            text(each, value)
            for each in self.ranges.values()
            if each.unit is not None and each.choices is None and (each.step is not None or each.whole)
            for value in _grid(each)
        ]

    @property
    def size(self) -> float:
        """How many combinations there are; infinitely many where a range has no steps."""
        return math.prod(_count(each) for each in self.ranges.values())


def distribution(given: RangeSection) -> "BaseDistribution":
    """A range for optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if given.choices is not None:
        return CategoricalDistribution(tuple(given.choices))
    assert given.low is not None
    assert given.high is not None
    if given.whole:
        return IntDistribution(int(given.low), int(given.high), log=given.log, step=int(given.step or 1))
    step = None if given.step is None else float(given.step)
    return FloatDistribution(float(given.low), float(given.high), log=given.log, step=step)


def text(given: RangeSection, value: Scalar) -> str:
    """A value of a range as on a command line; of a range with steps, the exact decimal."""
    if given.choices is not None:
        return literal(value)
    assert isinstance(value, int | float)
    if given.step is not None and not given.whole:
        low, step = Decimal(str(given.low)), Decimal(str(given.step))
        number = f"{(low + round((Decimal(value) - low) / step) * step).normalize():f}"
    else:
        number = repr(int(value) if given.whole else float(value))
    return number + (given.unit or "")


def literal(value: Scalar) -> str:
    """A single value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    # Within quotes a backslash stands for itself, except before a quote, which it escapes: there it is doubled.
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", value)
    quoted = re.sub(r"(\\+)$", r"\1\1", quoted)
    return f"'{quoted}'"


def _count(given: RangeSection) -> float:
    if given.choices is not None:
        return len(given.choices)
    assert given.low is not None
    assert given.high is not None
    if given.step is None and not given.whole:
        return 1 if given.low == given.high else math.inf
    return int((Decimal(str(given.high)) - Decimal(str(given.low))) / Decimal(str(given.step or 1))) + 1


def _grid(given: RangeSection) -> list[int | float]:
    low, step = Decimal(str(given.low)), Decimal(str(given.step or 1))
    return [float(low + number * step) for number in range(int(_count(given)))]
