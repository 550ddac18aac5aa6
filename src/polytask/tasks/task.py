"""What every task type offers: reading labels, the loss, decoding, and its own JSON form."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema, field_validator, model_validator

from polytask.errors import ConfigError, nearest
from polytask.heads import HEADS, POOLINGS
from polytask.options import DataOptions, Options
from polytask.registry import NameOf
from polytask.tasks.gate import GateOptions
from polytask.tasks.losses import LOSSES, own_loss
from polytask.tasks.metric import Level, metrics_of_type
from polytask.terms import NO_TOKEN, OWN_TOKEN, SHARED_TOKEN, Activation, HeadSpec, Inputs, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

# What a head says of one row or of several, taken off the model: float32.
Outputs: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
# Marks the fields of a task that are fitted on dev, once the model is chosen.
ON_DEV = {"fitted": "dev"}
Row: TypeAlias = Mapping[str, Any]
GoldType: TypeAlias = Literal["string", "double", "list<string>", "list<double>"]
TargetType: TypeAlias = Literal["int", "float", "list<int>", "list<float>"]
ProblemType: TypeAlias = Literal["single_label_classification", "multi_label_classification", "regression"]
_Value = TypeVar("_Value")
_Real = TypeVar("_Real", NDArray[np.float32], NDArray[np.float64])
# How values that a training learned are read from a model folder: as they were written, and finite.
_AS_WRITTEN = ConfigDict(strict=True, allow_inf_nan=False)
_POSITIVE = frozenset({"temperature", "deviation"})
_TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
# A whole number as pandas writes it where a column has gaps; `01` and `1.` may be codes.
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")


def _one_or_several(value: Any) -> Any:  # noqa: ANN401
    return (value,) if isinstance(value, str) else value


def _as_cells(value: Any) -> Any:  # noqa: ANN401
    items = _one_or_several([value] if isinstance(value, int) else value)
    if not isinstance(items, list | tuple):
        return items
    found = [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items]
    return [item.strip() if isinstance(item, str) else item for item in found]


_NAME = {"type": "string"}
_CELL = {"type": ["string", "integer"]}
Names: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [_NAME, {"type": "array", "items": _NAME}]}),
]

Cells: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_cells),
    WithJsonSchema({"anyOf": [_CELL, {"type": "array", "items": _CELL}]}),
]


# What changes how a task learns, and nothing that is read from its rows.
_LEARNING = frozenset(
    {
        "data", "needs", "reads", "detach_reads", "gate", "weight", "metric", "pooling", "dropout", "head",
        "loss", "class_weights", "label_smoothing", "threshold", "calibrate",
    }
)  # fmt: skip


class TaskOptions(Options):
    """The options that every task type has."""

    type: str
    data: DataOptions = DataOptions()
    text: str = Field(default="text", description="column that holds the text")
    text_pair: tuple[str, str] | None = Field(
        default=None, description="two columns, where the task is about a pair of texts"
    )
    unlabelled: Cells = Field(
        default=(), description="words in a label cell that mean: not labelled, as an empty cell does; such as NA"
    )
    needs: Names = Field(default=(), description="tasks that this one depends on: one name or several")
    reads: dict[str, Literal["probabilities"]] = Field(
        default={}, description="needed tasks whose predictions the head of this task reads: {intent: probabilities}"
    )
    detach_reads: bool = Field(default=True, description="stop the gradient at what is read")
    gate: GateOptions | None = Field(default=None, description="when the task is ready for those that need it")
    weight: float = Field(default=1.0, gt=0, description="weight of the task's loss")
    metric: str | None = Field(default=None, description="main metric; the type's first by default")
    pooling: Annotated[str, NameOf(POOLINGS)] = Field(
        default="mean", description="how the token states become one state per row"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout before the output layer")
    head: Annotated[str, NameOf(HEADS)] | None = Field(
        default=None, description="a head of your own, by its registered name; by default the one of the type"
    )
    loss: Annotated[str, NameOf(LOSSES)] | None = Field(
        default=None, description="a loss of your own, by its registered name; by default the one of the type"
    )

    # The type's own; `known_metrics` has those too that users registered for it.
    metrics: ClassVar[tuple[str, ...]] = ()
    # Whether the type has one output a text or one a word.
    level: ClassVar[Level] = "row"

    @classmethod
    def known_metrics(cls) -> tuple[str, ...]:
        """Return the metrics that the type is scored by."""
        return metrics_of_type(cls.metrics, cls.level, *getattr(cls.model_fields["type"].annotation, "__args__", ()))

    @field_validator("gate")
    @classmethod
    def _gate_asks_for_known_metrics(cls, value: GateOptions | None) -> GateOptions | None:
        for metric in (value.score or {}) if value is not None else ():
            if metric not in cls.known_metrics():
                raise ValueError(f"found the metric {metric!r} in score; {nearest(metric, cls.known_metrics())}")
        return value

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in cls.known_metrics():
            raise ValueError(nearest(value, cls.known_metrics()))
        return value

    @model_validator(mode="after")
    def _own_loss_stands_alone(self) -> Self:
        beside = [name for name in ("class_weights", "label_smoothing") if self.loss and getattr(self, name, None)]
        if beside:
            raise ValueError(
                f"found loss and {' and '.join(beside)}, which belong to the type's own loss; leave one out"
            )
        return self

    def reading(self) -> dict[str, Any]:
        """Return the options on which depends what is read from the rows; the cache goes by them."""
        return {
            **self.model_dump(mode="json", exclude=set(_LEARNING)),
            "strict": self.data.strict,
            "offsets": self.data.offsets,
        }

    @property
    def inputs(self) -> Inputs:
        """The columns that hold the input."""
        return Inputs(*self.text_pair) if self.text_pair else Inputs(self.text)


@dataclass
class LabelStats:
    """What one pass over a split counted for one task.

    Attributes:
        labels: occurrences of each label (of each word's tag for tagging).
        present: rows that carry the task's label.
        missing: rows that do not.
        numbers: numeric labels (of each word at word level).
        total, spread, low, high: their sum, sum of squared distances from the mean, and range.
        repaired: orphan I- tags turned into B- tags.
        repaired_at: where the first of them stands.
        shortest, longest: the number of labels that a row lists, where rows list labels.
        joined: rows whose labels are text joined by a separator.
        places: where each label stands first.
        respelled: labels that are read in another spelling, such as `1.0` as `1`: the spelling that is read.
        respelled_at: where the first of them stands.
        scheme: how the tags are written, where they are read as BIO and are not written so.
    """

    labels: Counter[str] = field(default_factory=Counter[str])
    present: int = 0
    missing: int = 0
    numbers: int = 0
    total: float = 0.0
    spread: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    repaired: int = 0
    repaired_at: str = ""
    shortest: int | None = None
    longest: int = 0
    joined: int = 0
    places: dict[str, str] = field(default_factory=dict[str, str])
    respelled: dict[str, str] = field(default_factory=dict[str, str])
    respelled_at: str = ""
    scheme: str = ""

    @property
    def mean(self) -> float:
        """The mean of the numeric labels, of which there is one or more."""
        return self.total / self.numbers

    def number(self, value: float) -> None:
        """Count a numeric label."""
        # Welford's update: a difference of sums would lose the deviation of large numbers, such as times in seconds.
        before = self.mean if self.numbers else value
        self.numbers += 1
        self.total += value
        self.spread += (value - before) * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def label(self, value: Any) -> str:  # noqa: ANN401
        """Return a cell's label as `label_text` reads it, and remember where a text is read in another spelling."""
        label = label_text(value)
        if isinstance(value, str) and label != value:
            self.respelled[value] = label
        return label

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready form, read back by `LabelStats(**...)` with the labels as a Counter."""
        low, high = (value if math.isfinite(value) else None for value in (self.low, self.high))
        return {**self.__dict__, "labels": dict(self.labels), "low": low, "high": high}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelStats:
        """Rebuild the statistics from `to_json`."""
        # Without a number there is no range, for which JSON has no word either.
        rest = {key: value for key, value in data.items() if key != "labels" and value is not None}
        return cls(labels=Counter(data["labels"]), **rest)


class BadLabel(ValueError):
    """A label that does not fit the other labels of its file.

    Attributes:
        place: where it stands first.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class Rereading(ABC):
    """How the labels of a file are meant; made once all of them have been seen."""

    @abstractmethod
    def read(self, label: list[str], place: str) -> list[str]:
        """Return the labels of a row as they are meant."""

    @abstractmethod
    def finish(self, stats: LabelStats) -> None:
        """Add to the statistics what a person should know. Raises BadLabel for what `strict` refuses."""


class Task(ABC):
    """One thing to predict; built from options and the label statistics of the training rows."""

    type_name: ClassVar[str]
    Options: ClassVar[type[TaskOptions]]
    level: ClassVar[Level] = "row"
    # Arrow type of a cell, by name: "string", "list<string>", "double".
    label_type: ClassVar[GoldType]
    # What `encode` returns for a row: a class, a number, or a class or number for each word (or label).
    target_type: ClassVar[TargetType]
    # What the head's outputs become for the tasks that read them.
    activation: ClassVar[Activation]
    # How Hugging Face's classes for texts, and its pipelines, take the outputs.
    problem_type: ClassVar[ProblemType | None] = None
    # Whether one of Hugging Face's classes for words takes the outputs; at row level `problem_type` says it.
    plain_form: ClassVar[bool] = False
    # Names that others have for the type, written with small letters and hyphens.
    also_called: ClassVar[tuple[str, ...]] = ()
    # The type's own row of the table of heads; by default that of its level.
    head_type: ClassVar[str | None] = None
    # What to know of rows without a label, beyond that they are masked.
    missing_hint: ClassVar[str] = ""

    name: str
    options: Any

    @classmethod
    @abstractmethod
    def columns(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Name the columns that hold the labels."""

    @classmethod
    @abstractmethod
    def read(cls, options: Any, row: Row, stats: LabelStats) -> Label:  # noqa: ANN401
        """Return the label in a row, or None where it has none; count it. Raises ValueError on a bad cell."""

    @classmethod
    def rereading(cls, options: Any, stats: LabelStats) -> Rereading | None:  # noqa: ANN401
        """Return how the labels of rows are meant, where only all labels of the file tell; None where they stay.

        Args:
            stats: what `read` counted in the whole file.

        Raises BadLabel for one that does not fit the others.
        """
        del options, stats
        return None

    @classmethod
    @abstractmethod
    def fit(cls, name: str, options: Any, stats: LabelStats) -> Task:  # noqa: ANN401
        """Build the task from its options and what the training rows hold. Raises ValueError when they are useless."""

    @property
    def reading_options(self) -> Any:  # noqa: ANN401
        """The options by which other rows are read as the training rows were."""
        return self.options

    @property
    @abstractmethod
    def head(self) -> HeadSpec:
        """What the task asks of its head; what it reads of other tasks is added by `head_specs`."""

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """Names of the type's own metrics that score the task, the one that is the main one by default first."""
        return self.options.metrics

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that score the task, the main one first; users may have registered some for the type."""
        return ordered_metrics(metrics_of_type(self.own_metrics, self.level, self.type_name), self.options.metric)

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The label space; empty for a number."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that people wrote; of two tags of one entity type the first."""
        return self.labels

    @property
    def finds_spans(self) -> bool:
        """Whether `format_prediction` tells spans of characters, which annotation tools read."""
        return False

    def only_label(self, stats: LabelStats) -> str | None:
        """Name what all counted rows have, as in `every row has ...`; None where they differ."""
        return f"the label {next(iter(stats.labels))!r}" if len(stats.labels) == 1 else None

    def nothing_hint(self, label: str) -> str:
        """Say how a label that may mean nothing can be read so."""
        return f"if it means that a row is not labelled, set `unlabelled: [{json.dumps(label, ensure_ascii=False)}]`"

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability, as it is shown, from which each label is given; empty where labels exclude one another."""
        return {}

    @property
    def unit(self) -> tuple[float, float]:
        """Factor and summand that turn the head's outputs into what another program expects: logits, or the number.

        An export folds them into the output layer.
        """
        return 1.0, 0.0

    @abstractmethod
    def encode(self, label: Label) -> int | float | list[int] | list[float]:
        """Turn a label into what the loss takes; labels unseen in training become -100 (ignored by the loss)."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of the targets.

        Args:
            outputs: rows (or words) x size, float32.
            targets: rows (or words), or rows x size for several labels.
        """

    @abstractmethod
    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the summed loss against a teacher's outputs; each counts for as much as its label does in `loss`.

        So `loss_denominator` divides both; where the label is -100 (ignored), the teacher is ignored as well.

        Args:
            outputs, teacher_logits: rows (or words) x size, float32.
            targets: as for `loss`.
        """

    def label_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss against the labels: the type's, or the one that the options name.

        Raises ConfigError where that one does not return a number for each target.
        """
        if self.options.loss is None:
            return self.loss(outputs, targets)
        return own_loss(self.options.loss, outputs, targets)

    def require_usable_loss(self) -> None:
        """Try a loss of the user's own on two outputs. Raises ConfigError where it cannot be used."""
        import torch

        if self.options.loss is None:
            return
        label: Label = next(iter(self.labels), 0.0)
        target = self.encode([label] if self.label_type.startswith("list") else label)  # type: ignore[list-item]
        one = target[0] if self.level == "word" and isinstance(target, list) else target
        targets = torch.tensor([one, one])
        outputs = torch.zeros(2, self.head.size, requires_grad=True)
        try:
            self.label_loss(outputs, targets).backward()
        except (ConfigError, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"tasks.{self.name}.loss: {error}") from error

    def loss_with_teacher(
        self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float
    ) -> Tensor:
        """Return the summed loss label_weight x labels + (1 - label_weight) x teacher.

        Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks", section 3 (teacher annealing). Where the
        teacher says nothing (nan: a word that its encoder does not reach), the label counts in full.
        """
        if label_weight >= 1.0:
            return self.label_loss(outputs, targets)
        said = ~teacher_logits.isnan().any(-1)
        distilled = self.distillation_loss(outputs[said], targets[said], teacher_logits[said])
        left = self.label_loss(outputs[~said], targets[~said])
        return label_weight * self.label_loss(outputs, targets) + (1.0 - label_weight) * (distilled + left)

    def convert_teacher_logits(self, outputs: Tensor, teacher: Task) -> Tensor:
        """Return the outputs of a teacher's task, which has the same labels, as outputs of this one."""
        del teacher
        return outputs

    def loss_denominator(self, targets: Tensor) -> float:
        """Return what divides the summed loss into a mean: the number of targets, or the sum of their weights."""
        return float(len(targets))

    @abstractmethod
    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors between 0 and 1, added up by class, and how many there are of each class.

        Balancers read them: unlike losses they compare across task types, and no frequent class hides a rare one.

        Args:
            outputs, targets: as for `loss`; without a gradient.

        Returns:
            Two tensors: as many elements as the head has outputs.
        """

    @abstractmethod
    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        """Turn outputs into one label a row.

        Args:
            outputs: rows (or words that have a token of their own) x size.
            words: for word level, for each row and each of its words NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """

    @abstractmethod
    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Turn one row's outputs into what a user reads: labels with probabilities, or entities with offsets.

        Args:
            outputs: size, or words that have a token of their own x size.
            has_token: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        """Return the outputs that stand for the mean answer of several, such as the windows of a long text.

        At row level: the mean of what is shown, probabilities or values.

        Args:
            outputs: answers x size.
            weights: of the answers; they add up to 1.
        """
        return (weights @ outputs).astype(np.float32)

    @property
    def fits_on_dev(self) -> bool:
        """Whether `tuned` has anything to do."""
        return False

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Task, list[str]]:
        """Return the task with what is fitted on dev rows, and what a person should know about it.

        What was fitted before is forgotten. No dev row is needed; what then stays as it is, is among the notes.

        Args:
            outputs, words: as for `decode`.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return self, []

    def describe_tuned(self) -> dict[str, Any]:
        """Return what was fitted on dev, as a person reads it."""
        return {}

    def uncalibrated(self) -> Task:
        """Return the task as it decides, with the probabilities that the model was trained to give."""
        return self

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools] | None:
        """Return the probability of each decision and whether it is right; None where there are no probabilities.

        Args:
            outputs, words: as for `decode`; a word without a token of its own is no decision.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return None

    @abstractmethod
    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """Return what the majority baseline (from training) predicts for these rows."""

    @property
    def absent(self) -> str | None:
        """What stands in `confusion_pairs` for a label that is not there; None where each decision has one."""
        return None

    @property
    def typical_range(self) -> tuple[float, float] | None:
        """Where most numbers of the training rows lie; None where labels are no numbers."""
        return None

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]] | None:
        """Return each decision as (true label, label found); None where labels are no classes.

        Args:
            labels, predictions: the labels and the predictions of the same rows.
        """
        del labels, predictions
        return None

    def lost_words(self, targets: Sequence[float], words: Sequence[int]) -> int:
        """Count the words of a row that share a token which does not tell their value; of types at word level.

        Args:
            targets: of all words, from `encode`.
            words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """
        own = [target for target, word in zip(targets, words, strict=True) if word == OWN_TOKEN]
        told = per_word(own, words, -100.0)
        pairs = zip(told, targets, words, strict=True)
        return sum(self.continued(first) != target for first, target, word in pairs if word == SHARED_TOKEN)

    def continued(self, target: float) -> float:
        """Return the target that the words after the first have that share a token with it."""
        return target

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON: its type, its options without the data, what it learned from training rows and dev.

        What the targets of rows depend on is under `fitted`; `tuned` is what was fitted on dev.
        """
        learned = [key for key in fields(self) if key.name not in ("name", "options")]  # type: ignore[arg-type]
        fitted = {key.name: getattr(self, key.name) for key in learned if key.metadata.get("fitted") != "dev"}
        tuned = {key.name: getattr(self, key.name) for key in learned if key.metadata.get("fitted") == "dev"}
        options = self.options.model_dump(mode="json", exclude={"data", "loss"})
        return {"type": self.type_name, "options": options, "fitted": fitted, "tuned": tuned}

    @classmethod
    def from_json(cls, name: str, data: dict[str, Any]) -> Task:
        """Rebuild the task from `to_json`; one of before anything was fitted on dev has no `tuned`.

        Raises ValueError or TypeError where the values are none that a training can have learned.
        """
        learned = {**data["fitted"], **data.get("tuned", {})}
        kinds = get_type_hints(cls)
        given = {
            key: TypeAdapter(kinds[key], config=_AS_WRITTEN).validate_python(
                tuple(value) if isinstance(value, list) else value
            )
            for key, value in learned.items()
        }
        options = {key: value for key, value in data["options"].items() if key != "data"}
        task = cls(name, cls.Options.model_validate(options), **given)  # type: ignore[call-arg]
        task.require_sound(given)
        return task

    def require_sound(self, learned: Mapping[str, Any]) -> None:
        """Raise ValueError unless the learned values belong together."""
        lists = {key: value for key, value in learned.items() if isinstance(value, tuple) and (value or key != "cuts")}
        sizes = {len(value) for value in lists.values()}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError(
                f"{self.name}: {', '.join(lists)} have {sorted(sizes)} values; expected one for each label"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{self.name}: a label stands twice")
        for key in _POSITIVE & learned.keys():
            if not learned[key] > 0:
                raise ValueError(f"{self.name}: {key} is {learned[key]}; expected a number above 0")

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]


def per_word(values: Sequence[_Value], words: Sequence[int], otherwise: _Value) -> list[_Value]:
    """Return a value for each word: its own, that of the word whose token it shares, or another where it has no token.

    Args:
        values: of the words that have a token of their own.
        words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
    """
    own = iter(values)
    found: list[_Value] = []
    last = otherwise
    for word in words:
        last = next(own) if word == OWN_TOKEN else last
        found.append(otherwise if word == NO_TOKEN else last)
    return found


def ordered_metrics(metrics: tuple[str, ...], main: str | None) -> tuple[str, ...]:
    """Put the main metric first."""
    return metrics if main is None else (main, *(name for name in metrics if name != main))


def label_text(value: Any) -> str:  # noqa: ANN401
    """Return a label cell as text: one spelling for what is certainly the same label, in every file.

    Outer spaces go, truth values are `true` and `false`, and `1.0` is `1`. Raises ValueError unless the cell is text, a
    whole number or a truth value.

    >>> label_text(" pos "), label_text("True"), label_text("1.0"), label_text(1.0), label_text("1.5")
    ('pos', 'true', '1', '1', '1.5')
    """
    if isinstance(value, str):
        text = value.strip()
        whole = _WHOLE.fullmatch(text)
        return str(int(whole[1])) if whole else _TRUTH.get(text, text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Integral):  # NumPy's whole numbers too
        return str(value)
    raise ValueError(f"found {value!r}; a label is text or a whole number")


def says_nothing(value: Any, options: TaskOptions) -> bool:  # noqa: ANN401
    """Whether a label cell is not labelled: absent, null, blank, or a word that the options name."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, Integral):
        text = str(value)
    else:
        return False
    return not text or text in options.unlabelled


def softmax(outputs: _Real) -> _Real:
    """Return the distributions over the last axis."""
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(outputs: _Real) -> _Real:
    """Return the probability of each output."""
    # By the half-angle form of tanh: exp of a large number would overflow.
    found: _Real = outputs * 0.5
    np.tanh(found, out=found)
    found += 1.0
    found *= 0.5
    return found


def rounded(number: float) -> float:
    """Round for output: six decimals are more than any score is worth."""
    return round(number, 6)
