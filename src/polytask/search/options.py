"""Options of a search: its budget, and the limits on the shipped model."""

from __future__ import annotations

from pydantic import Field, model_validator

from polytask.options import Options
from polytask.search.outline import FOLDS

BUDGET = 8.0


class AutoOptions(Options):
    """The options of `polytask auto`."""

    budget: float | None = Field(
        default=None, gt=0, description="cost of the search, in trainings of the configuration; 8 by default"
    )
    hours: float | None = Field(
        default=None,
        gt=0,
        description="hours instead of a budget; converted to trainings from the duration of the first run",
    )
    floor: float = Field(
        default=0.5, ge=0, description="points (hundredths) of its metric that a task may lose against its single model"
    )
    certainty: float = Field(
        default=0.5,
        ge=0.5,
        lt=1,
        description="required probability, over the dev rows, that a task lies above the floor",
    )
    folds: int | None = Field(
        default=None,
        ge=0,
        le=FOLDS,
        description=f"number of folds, of {FOLDS}, of the training rows that the winner is judged on in addition to "
        "dev rows: it and the single models are trained again without each; by default as many as the budget allows",
    )
    max_size: float = Field(
        default=2.0, ge=1, description="maximum parameters of the shipped model, relative to one that shares everything"
    )
    max_passes: float = Field(
        default=2.0,
        ge=1,
        description="maximum encoder work for a text with all tasks, relative to a model that shares everything",
    )
    jobs: int = Field(default=1, ge=1, le=256, description="runs to train at the same time")
    ray: bool = Field(default=False, description="train the runs on the Ray cluster at RAY_ADDRESS, or on a local one")

    @model_validator(mode="after")
    def _one_budget(self) -> AutoOptions:
        if self.budget is not None and self.hours is not None:
            raise ValueError("found budget and hours; give one of them")
        return self
