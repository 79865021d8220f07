"""The section `search`: which values a search may choose from, and how it chooses."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from qp_runner.config.section import Section

Scalar = bool | int | float | str | None
Number = int | float


class RangeSection(Section):
    """The values that a key may take: `low` to `high`, both included, or one of `choices`.

    Attributes:
        step: from one value to the next. Without it, whole `low` and `high` give whole numbers, unless `unit` is `dur`
            or `ep`; all else gives real numbers.
        log: spreads the values evenly over their logarithm.
        unit: makes times of the numbers: 0.65 becomes `0.65dur`.
    """

    low: Number | None = None
    high: Number | None = None
    step: Number | None = None
    log: bool = False
    unit: Literal["dur", "ep", "it"] | None = None
    choices: Annotated[list[Scalar], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.choices is not None:
            if self.model_fields_set - {"choices"}:
                raise ValueError("either choices or low and high, not both")
            if len({repr(each) for each in self.choices}) < len(self.choices):
                raise ValueError("every choice once")
            return self
        if self.low is None or self.high is None:
            raise ValueError("either choices or both low and high")
        if self.low > self.high:
            raise ValueError("low at most high")
        if self.step is not None:
            self._check_step(self.low, self.high, self.step)
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs low above 0 and no step")
        self._check_unit(self.low, self.high)
        return self

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        given = [each for each in (self.low, self.high, self.step) if each is not None]
        counts = self.step is not None or self.unit in (None, "it")
        return self.choices is None and counts and all(isinstance(each, int) for each in given)

    def _check_step(self, low: Number, high: Number, step: Number) -> None:
        if step <= 0:
            raise ValueError("a step above 0")
        start, size = Decimal(str(low)), Decimal(str(step))
        count = (Decimal(str(high)) - start) // size
        if start + count * size != Decimal(str(high)):
            raise ValueError(f"high a whole number of steps above low, such as {start + count * size}")

    def _check_unit(self, low: Number, high: Number) -> None:
        if self.unit is not None and low < 0:
            raise ValueError("times from 0, the start of training")
        if self.unit == "dur" and high > 1:
            raise ValueError("times in dur are shares of training, at most 1")
        if self.unit == "it" and not self.whole:
            raise ValueError("times in it are whole numbers of steps")


class SearchSection(Section):
    """How values are chosen: see `qp_runner.search.study`.

    Attributes:
        trials: runs to make in all; a larger number continues a search.
        batch: runs that are chosen at once; null: as many as the launcher has workers, at least 4.
        seed: of the sampler; that of the runs is the top-level `seed`.
        startup: trials that TPE draws at random before it learns.
        population: trials per generation of NSGA-II.
        reference: whether to make the float run too, for comparison.
        confirm: fresh seeds with which the front's best trial is trained again at the end, and `against`; 0: none.
        against: what it is compared with: overrides by name.
        space: ranges by override key; null removes one.
    """

    sampler: Literal["tpe", "nsga2"]
    trials: int = Field(default=50, ge=1)
    batch: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    objectives: list[Literal["metric", "footprint"]] = Field(default=["metric", "footprint"], min_length=1)
    startup: int = Field(default=10, ge=1)
    population: int = Field(default=10, ge=2)
    reference: bool = True
    confirm: int = Field(default=0, ge=0, le=100)
    against: dict[str, list[str]] = Field(default={name: [f"schedule={name}"] for name in ("p_q_wf", "q_p_wf")})
    space: dict[str, RangeSection | None] = Field(default={}, validate_default=True)

    @field_validator("objectives")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("every objective once")
        return value

    @field_validator("against")
    @classmethod
    def _others(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        if not value or "found" in value:
            raise ValueError("at least one schedule to compare with, none of them named found")
        return value

    @field_validator("space")
    @classmethod
    def _something(cls, value: dict[str, RangeSection | None]) -> dict[str, RangeSection | None]:
        if not any(value.values()):
            raise ValueError("a range for at least one override key, such as schedule.events.prune_weight.to")
        return value

    @property
    def ranges(self) -> dict[str, RangeSection]:
        """The ranges in force, by key."""
        return {key: each for key, each in self.space.items() if each is not None}
