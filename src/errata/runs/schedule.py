"""Numbers of edits after which a run is measured, from a rule. No torch here."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Schedule(BaseModel):
    """So many numbers of edits, evenly apart: {to: 1000, count: 7} is 1, 3, 10, 32, 100, 316, 1000.

    from, to: the first and the last. count: how many; those that round to the same number are one. spacing: log,
    equal ratios, or linear, equal steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int = Field(default=1, ge=1, alias="from")
    to: int = Field(ge=1)
    count: int = Field(ge=2)
    spacing: Literal["log", "linear"] = "log"

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        if self.to <= self.first:
            raise ValueError(f"`to` is {self.to} and must be more than `from`, {self.first}")
        return self

    @property
    def numbers(self) -> list[int]:
        """Ascending and distinct; the first and the last are met exactly."""
        steps = [step / (self.count - 1) for step in range(self.count)]
        if self.spacing == "log":
            found = [self.first * (self.to / self.first) ** step for step in steps]
        else:
            found = [self.first + (self.to - self.first) * step for step in steps]
        return sorted({round(number) for number in found})
