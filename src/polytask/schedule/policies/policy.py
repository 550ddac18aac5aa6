"""Policies: from feedback to the tasks' shares of the rows. A policy is one file and one row of POLICIES."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from polytask.reference_scores import resolve_runs
from polytask.registry import NameOf, Table
from polytask.schedule.parallel import MixedOptions
from polytask.schedule.schedule import Change, Feedback, Workload

# Filled by the package. A row is a class whose arguments are the options and the workload.
POLICIES: Table[type[Policy]] = Table("schedule policy", {})

# Minimum factor, relative to the greatest: a task that draws no rows is not measured, and would never come back.
LEAST = 0.05


class PolicyOptions(MixedOptions):
    """The choice of a policy, and the options of each."""

    policy: Annotated[str, NameOf(POLICIES)] = Field(
        default="training_error",
        description="training_error: rows to tasks by their errors on training rows; loss_rate: to tasks that learn "
        "slowly; dev_gap: to tasks far from their target; bandit: to tasks whose loss falls most; stop_and_go: a task "
        "that stopped improving pauses until it gets worse",
    )
    window: int = Field(
        default=20, ge=1, le=100_000, description="loss_rate, bandit: updates over which a loss is averaged"
    )
    softmax_temperature: float = Field(
        default=2.0,
        gt=0,
        description="loss_rate: temperature of the softmax over the loss ratios; higher values are more uniform",
    )
    targets: dict[str, float | str] | None = Field(
        default=None, description="dev_gap: target dev score by task: a number, or the folder of an earlier run"
    )
    error_power: float = Field(
        default=1.0, ge=0, description="training_error: exponent of the error; 0 treats all tasks equally"
    )
    explore: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="bandit: share of the probability that is uniform over the tasks",
    )
    patience: int = Field(default=2, ge=1, description="stop_and_go: evaluations without improvement before a pause")
    least_gain: float = Field(
        default=0.001,
        ge=0,
        description="stop_and_go: smallest relative gain of the dev score that counts as an improvement",
    )
    resume_drop: float = Field(
        default=0.005,
        ge=0,
        description="stop_and_go: a paused task resumes once its dev score has dropped this far below its best, "
        "relative to it",
    )
    refresh: int = Field(
        default=4, ge=2, description="stop_and_go: a paused task still trains once in this many updates"
    )

    @field_validator("targets")
    @classmethod
    def _runs_are_relative_to_the_file(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        return resolve_runs(value, info)


class Policy(ABC):
    """Computes factors of the tasks' shares from feedback."""

    # Whether it needs the training errors of each step.
    reads_errors: ClassVar[bool] = False

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        self.options = options
        self.tasks = tuple(workload.sizes)

    @abstractmethod
    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        """Return a factor for each ready task's share, 0 or greater, and not 0 for all."""

    @abstractmethod
    def observe(self, feedback: Feedback) -> list[Change]:
        """Process measurements, and return the changes to log."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""


def at_least(factors: Mapping[str, float]) -> dict[str, float]:
    """Raise factors to at least `LEAST` times the greatest."""
    least = LEAST * max(factors.values())
    return {task: max(factor, least) for task, factor in factors.items()}
