"""The parts of the JSON files of comparisons, relatedness measurements and searches that a page shows."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from polytask.page.form import Form, Matrix, Number, PlanForm


class ArmScoreForm(Form):
    """Scores of an arm in a task over seeds, and its difference to the single models."""

    mean: Number = None
    std: Number = None
    delta: Number = None
    low: Number = None
    high: Number = None
    relative: Number = None
    p_holm: Number = None
    values: list[Number] = Field(default_factory=list[Number])


class NeededForm(Form):
    """Number of test rows, or of seeds, that would settle a verdict; None if out of reach."""

    rows: int | None = None
    seeds: int | None = None


class VerdictForm(Form):
    """A task of a comparison."""

    metric: str
    smaller_is_better: bool = False
    arms: dict[str, ArmScoreForm]
    verdict: str | None = None
    sentence: str | None = None
    rows: int | None = None
    needed: NeededForm | None = None


class ArmForm(Form):
    """An arm of a comparison."""

    overrides: list[str] = Field(default_factory=list[str])
    parameters: int | None = None
    train_seconds: Number = None
    predict_rows_per_second: Number = None
    exposure: dict[str, Number] = Field(default_factory=dict[str, Number])
    runs: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])


class TransferForm(Form):
    """The transfer matrix: entry (i, j) is the change of task j's score due to task i."""

    tasks: list[str]
    matrix: Matrix


class ExampleForm(Form):
    """A test row that an arm predicts differently from the single model."""

    row: int
    place: str = ""
    text: str = ""
    label: Any = None
    single: Any = None
    prediction: Any = None


class ExamplesForm(Form):
    """Rows that sharing fixed and rows that it broke."""

    arm: str
    fixed: list[ExampleForm] = Field(default_factory=list[ExampleForm])
    broken: list[ExampleForm] = Field(default_factory=list[ExampleForm])


class ComparisonForm(Form):
    """comparison.json.

    Attributes:
        folds: number of folds of the training rows that replace test rows; 0 for none.
    """

    tasks: dict[str, VerdictForm]
    arms: dict[str, ArmForm] = Field(default_factory=dict[str, ArmForm])
    recommended: str | None = None
    reason: str | None = None
    floor: float | None = None
    seeds: list[int] = Field(default_factory=list[int])
    folds: int = 0
    level: float = 0.95
    notes: list[str] = Field(default_factory=list[str])
    transfer: TransferForm | None = None
    examples: dict[str, ExamplesForm] = Field(default_factory=dict[str, ExamplesForm])


class MeasureForm(Form):
    """A measure of relatedness: one matrix, its standard errors, and one matrix per layer if available."""

    meaning: str = ""
    matrix: Matrix | None = None
    error: Matrix | None = None
    layers: dict[str, Matrix] = Field(default_factory=dict[str, Matrix])


class CostForm(Form):
    """Cost of the measurement."""

    share_of_joint_run: Number = None
    row_passes: float | None = None
    joint_row_passes: float | None = None
    seconds: float | None = None


class RankForm(Form):
    """Rank correlation of a measure with the effects of joint training, over pairs of tasks."""

    spearman: Number = None
    pairs: int | None = None


class RelatednessForm(Form):
    """relatedness.json."""

    tasks: list[str]
    measures: dict[str, MeasureForm] = Field(default_factory=dict[str, MeasureForm])
    groups: list[list[str]] = Field(default_factory=list[list[str]])
    grouped_by: str | None = None
    plan: PlanForm | None = None
    picture: str | None = None
    cost: CostForm | None = None
    rank_correlation: dict[str, RankForm] = Field(default_factory=dict[str, RankForm])
    sentences: list[str] = Field(default_factory=list[str])


class StandingForm(Form):
    """A task compared with its single model on dev rows."""

    delta: Number = None
    low: Number = None
    high: Number = None
    above: Number = None


class AutoTaskForm(Form):
    """A task of auto.json."""

    metric: str = "score"
    how: str = ""
    split: str = "test"
    single_learned: bool | None = True
    single: Number = None
    winner: Number = None
    score: Number = None
    delta: Number = None
    low: Number = None
    high: Number = None
    dev: StandingForm = StandingForm()
    lifted_by: str | None = None
    judged: bool = True
    below_floor: bool = False
    would_need: str = ""
    judged_by: str = "dev rows"
    likelihood: str = ""
    sentence: str = ""


class TriedForm(Form):
    """A candidate of auto.json, at a fraction of the budget."""

    name: str
    changes: list[str] = Field(default_factory=list[str])
    share: Number = None
    size: Number = None
    passes: Number = None
    cost: Number = None
    worst: Number = None
    mean: Number = None
    deltas: dict[str, Number] = Field(default_factory=dict[str, Number])
    failed: str = ""
    run: str = ""


class StepForm(Form):
    """A step of the ladder."""

    task: str
    step: str
    lifts: bool = False
    taken: bool = False
    trained_further: list[str] = Field(default_factory=list[str])
    why: str = ""
    size: Number = None
    passes: Number = None
    cost: Number = None
    dev: StandingForm | None = None


class RatesForm(Form):
    """Scores with multiples of the learning rates."""

    of: str = ""
    scores: dict[str, Number] = Field(default_factory=dict[str, Number])
    chosen: Number = None


class AutoForm(Form):
    """auto.json."""

    answer: str = ""
    tasks: dict[str, AutoTaskForm]
    size: Number = None
    passes: Number = None
    parameters: Number = None
    singles: dict[str, Number] = Field(default_factory=dict[str, Number])
    rows_per_second: dict[str, Number] = Field(default_factory=dict[str, Number])
    winner: str = ""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    budget: Number = None
    spent: Number = None
    seconds_of_one_training: Number = None
    rates: list[RatesForm] = Field(default_factory=list[RatesForm])
    candidates: list[TriedForm] = Field(default_factory=list[TriedForm])
    ladder: list[StepForm] = Field(default_factory=list[StepForm])
    picture: str = ""
    notes: list[str] = Field(default_factory=list[str])
