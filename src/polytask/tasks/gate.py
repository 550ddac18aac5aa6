"""When a task counts as ready for those that need it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from polytask.options import Options


class GateOptions(Options):
    """A gate opens at the first of its conditions."""

    score: dict[str, float] | None = Field(
        default=None, min_length=1, description="a dev score to reach, by metric: {f1: 0.9}"
    )
    plateau: int | None = Field(
        default=None, ge=1, description="consecutive evaluations without a better dev score of the main metric"
    )
    epochs: float | None = Field(
        default=None, gt=0, le=1_000_000, description="passes through the task's own training rows"
    )
    limit: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="passes after which `on_limit` applies; by default the run's, shared by its waves",
    )
    on_limit: Literal["continue", "stop"] = Field(
        default="continue", description="what happens to a gate that was not reached: it opens, or the run ends"
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> GateOptions:
        if self.score is None and self.plateau is None and self.epochs is None:
            raise ValueError("found no condition; expected score, plateau or epochs")
        return self
