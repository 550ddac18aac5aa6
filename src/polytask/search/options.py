"""What a person says of a search: its budget, and what the model that it ships may cost."""

from __future__ import annotations

from pydantic import Field, model_validator

from polytask.options import Options
from polytask.search.outline import FOLDS

BUDGET = 8.0


class AutoOptions(Options):
    """The options of `polytask auto`."""

    budget: float | None = Field(
        default=None, gt=0, description="trainings of the configuration that the search may cost; 8 by default"
    )
    hours: float | None = Field(
        default=None, gt=0, description="hours in place of a budget; the first run tells how many trainings they are"
    )
    floor: float = Field(
        default=0.5, ge=0, description="points (hundredths) of its metric that a task may lose against its own model"
    )
    certainty: float = Field(
        default=0.5,
        ge=0.5,
        lt=1,
        description="probability, over the dev rows, with which a task has to lie above the floor",
    )
    folds: int | None = Field(
        default=None,
        ge=0,
        le=FOLDS,
        description=f"how many of {FOLDS} parts of the training rows the winner is judged by, beside dev rows: it and "
        "the single models are trained again without each; by default as many as the budget has room for",
    )
    max_size: float = Field(
        default=2.0, ge=1, description="parameters of the shipped model, relative to one that shares everything"
    )
    max_passes: float = Field(
        default=2.0,
        ge=1,
        description="encoder work for a text that asks for all tasks, relative to one that shares everything",
    )
    jobs: int = Field(default=1, ge=1, le=256, description="runs that train at once")
    ray: bool = Field(default=False, description="train the runs on the Ray cluster at RAY_ADDRESS, or on a local one")

    @model_validator(mode="after")
    def _one_budget(self) -> AutoOptions:
        if self.budget is not None and self.hours is not None:
            raise ValueError("found budget and hours; give one of them")
        return self
