"""The parts of a folder's JSON files that a page shows. Everything that may be missing has a default."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Number: TypeAlias = float | None
Matrix: TypeAlias = list[list[float | None]]
Scores: TypeAlias = dict[str, dict[str, float | None]]
BySplit: TypeAlias = dict[str, dict[str, dict[str, float | None]]]
Intervals: TypeAlias = dict[str, dict[str, dict[str, tuple[float, float] | None]]]


class Form(BaseModel):
    """Base class; ignores keys that a page does not show."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PlanForm(Form):
    """A sharing plan: the parts of the tasks for the embeddings and each layer."""

    tasks: list[str]
    levels: list[list[list[str]]]


class SharingForm(Form):
    """The sharing of the tasks at the end of a run."""

    plan: PlanForm
    kind: dict[str, Any] = Field(default_factory=dict[str, Any])
    mixing: dict[str, Any] | None = None
    heads: list[list[str]] = Field(default_factory=list[list[str]])


class ParametersForm(Form):
    """Numbers of parameters: of the model, of full sharing, and of one model per task; shared and own ones by task."""

    total: int | None = None
    single: int | None = None
    apart: int | None = None
    shared: dict[str, int] = Field(default_factory=dict[str, int])
    own: dict[str, int] = Field(default_factory=dict[str, int])


class StageForm(Form):
    """Each task's main dev score at the end of a stage."""

    stage: str
    step: int
    scores: dict[str, Number]


class SelectionForm(Form):
    """The rule that selected the kept evaluation."""

    rule: str
    baselines: dict[str, Number] | None = None


class RunForm(Form):
    """run.json."""

    seconds: float | None = None
    steps: int | None = None
    best_step: int | None = None
    stages: list[StageForm] = Field(default_factory=list[StageForm])
    exposure: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    notes: list[str] = Field(default_factory=list[str])
    versions: dict[str, Any] = Field(default_factory=dict[str, Any])
    processes: int | None = None
    device: str | None = None
    sharing: SharingForm | None = None
    start_plan: PlanForm | None = None
    picture: str | None = None
    parameters: ParametersForm | None = None
    peak_mib: float | None = None
    predict_rows_per_second: float | None = None
    selection: SelectionForm | None = None
    pareto: list[int] = Field(default_factory=list[int])
    predicted_split: dict[str, str] = Field(default_factory=dict[str, str])


class EventForm(Form):
    """A line of events.jsonl, of any kind."""

    event: str
    step: int
    time: float | None = None
    steps: int | None = None
    losses: dict[str, Number] = Field(default_factory=dict[str, Number])
    weights: dict[str, Number] = Field(default_factory=dict[str, Number])
    exposure: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    tokens_per_second: float | None = None
    stage: str | None = None
    dev: Scores = Field(default_factory=dict[str, dict[str, Number]])
    mean: float | None = None
    best: bool = False
    layer: int | None = None
    groups: list[list[str]] = Field(default_factory=list[list[str]])
    similarity: list[Number] = Field(default_factory=list[Number])
    measurements: int | None = None
    parameters: int | None = None
    evidence: Number = None
    threshold: Number = None
    plan: PlanForm | None = None
    task: str | None = None
    next: str | None = None
    reason: str | None = None


class ConfusionForm(Form):
    """A confusion matrix; rows are the true labels."""

    labels: list[str]
    counts: list[list[int]]

    @property
    def is_square(self) -> bool:
        """Whether the size of the matrix matches its labels."""
        size = len(self.labels)
        return len(self.counts) == size and all(len(row) == size for row in self.counts)


class TaskForm(Form):
    """A task of data.json."""

    type: str
    metric: str | None = None
    smaller_is_better: bool = False
    needs: list[str] = Field(default_factory=list[str])
    weight: float | None = None
    rows: dict[str, int] = Field(default_factory=dict[str, int])
    labels: dict[str, int] | None = None
    scale: list[str] = Field(default_factory=list[str])
    range: list[float] | None = None


class SourceForm(Form):
    """Rows of one split, with their lengths in tokens."""

    split: str
    tasks: list[str]
    rows: int
    median: float
    p95: float
    longest: float
    truncated: int


class NoteForm(Form):
    """A note for the user."""

    place: str
    message: str


class DataForm(Form):
    """data.json."""

    tasks: dict[str, TaskForm]
    sources: list[SourceForm] = Field(default_factory=list[SourceForm])
    notes: list[NoteForm] = Field(default_factory=list[NoteForm])


class NeighbourForm(Form):
    """A text that is close to a row's."""

    text: str = ""
    cosine: Number = None


class PredictionForm(Form):
    """A line of predictions/TASK.jsonl."""

    row: int
    place: str = ""
    label: Any = None
    prediction: Any = None
    text: str = ""
    words: list[tuple[int, int]] | None = None
    nearest: list[NeighbourForm] | None = None
