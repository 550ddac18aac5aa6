"""The condition on which a task counts as ready for the tasks that need it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from polytask.options import Options


class GateOptions(Options):
    """Options of a gate, which opens when the first of its conditions is met."""

    score: dict[str, float] | None = Field(
        default=None, min_length=1, description="dev score to reach, by metric: {f1: 0.9}"
    )
    plateau: int | None = Field(
        default=None,
        ge=1,
        description="number of consecutive evaluations without a better dev score of the main metric",
    )
    epochs: float | None = Field(
        default=None, gt=0, le=1_000_000, description="passes through the task's own training rows"
    )
    limit: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="epochs after which `on_limit` applies; by default those of the run, divided among its waves",
    )
    on_limit: Literal["continue", "stop"] = Field(
        default="continue",
        description="what happens at the limit if no condition was met: the gate opens, or the run ends",
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> GateOptions:
        if self.score is None and self.plateau is None and self.epochs is None:
            raise ValueError("found no condition; expected score, plateau or epochs")
        return self
