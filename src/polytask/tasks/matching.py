"""One label per text, with labels that are texts too: new labels can be added at prediction time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from polytask.errors import nearest
from polytask.tasks.answering import Answering
from polytask.tasks.arrays import Floats, Outputs
from polytask.tasks.cells import brief
from polytask.tasks.choice import balanced_weights, cross_entropy, known_denominator
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.contrast import direction_loss
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import label_text, require_whole
from polytask.tasks.multiple_choice import MultipleChoice
from polytask.tasks.objective import RateBound
from polytask.tasks.reader import Row
from polytask.tasks.soft import shares_in
from polytask.tasks.task import ON_DEV, Task
from polytask.tasks.vector_task import VectorTask
from polytask.terms import Label

if TYPE_CHECKING:
    from torch import Tensor

# The target of a label's own text is this number minus the label's index; -100 is a text without a known label.
LABEL_TEXT = -1000
# docs/tasks/matching.md has figures for this rate and greater ones.
_BOUND = RateBound(3e-5, "what labels mean that no training row has")
# Options without a meaning if each row has its own options.
_OF_LABELS = ("labels", "class_weights", "label_smoothing", "positive", "loss")
# Number of labels that a note lists at most.
MOST_LISTED = 10


class MatchingOptions(ClassificationOptions):
    """Options of a matching task."""

    type: Literal["matching"]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    labels: dict[str, str] = Field(
        default={}, description="texts that describe the labels: {sports: news about sport}; by default their names"
    )
    size: int | None = Field(
        default=None, ge=2, description="size of the compared vectors; by default the encoder's hidden size"
    )
    options: str | None = Field(
        default=None, description="column with each row's own options, a list of texts, if rows have their own"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of the vectors during training")

    learning: ClassVar[tuple[str, ...]] = ("size",)

    @field_validator("label_weight")
    @classmethod
    def _rows_weigh_the_same(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError(f"found {value!r}, and rows that are compared with the labels' texts all weigh the same")
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_read_as_in_the_rows(cls, value: Any) -> Any:  # noqa: ANN401
        return described(value) if isinstance(value, Mapping) else value

    @field_validator("threshold")
    @classmethod
    def _more_labels_may_come(cls, value: float | str) -> float | str:
        if value != cls.model_fields["threshold"].default:
            raise ValueError(
                f"found {value}, and labels can be added at prediction time; a threshold is for `type: "
                "classification` with two labels"
            )
        return value

    @model_validator(mode="after")
    def _rows_with_options_have_no_other_labels(self) -> Self:
        if self.options is None:
            return self
        conflicts = [name for name in _OF_LABELS if getattr(self, name)]
        if conflicts:
            raise ValueError(
                f"found options and {' and '.join(conflicts)}, which is for labels that all rows share; leave one out"
            )
        if self.options in (self.label, self.inputs.first, self.inputs.second):
            raise ValueError(f"options: found {self.options!r}, the column of the label or of a text; name another one")
        metrics = {self.metric, *((self.gate and self.gate.score) or ())} - {None, "accuracy"}
        wrong = sorted(name for name in metrics if name in self.metrics)
        if wrong:
            raise ValueError(f"found the metric {wrong[0]}; accepted if rows have options: accuracy")
        return self


@dataclass(frozen=True)
class Matching(VectorTask, Classification):
    """The label whose text is closest to the text, by the cosine of their vectors times a learned factor.

    The head returns vectors whose length is the square root of the factor, so that their dot products are logits. The
    labels of the training rows come first.

    Attributes:
        descriptions: text of each label.
    """

    options: MatchingOptions
    temperature: float = field(default=1.0, metadata=ON_DEV)
    descriptions: tuple[str, ...] = ()
    width: int = 0

    type_name = "matching"
    also_called = (
        "multiple-choice",
        "zero-shot-classification",
        "zero-shot",
        "described-labels",
        "label-matching",
        "open-vocabulary",
    )
    Options = MatchingOptions
    activation = "identity"
    problem_type = None
    head_type = "matching"

    @classmethod
    def for_options(cls, options: MatchingOptions) -> type[Task]:
        return cls if options.options is None else MultipleChoice

    @classmethod
    def read(cls, options: ClassificationOptions, row: Row, stats: LabelStats) -> Label:
        if shares_in(row.get(options.label)) is not None:
            raise ValueError(
                f"found {brief(row[options.label])}; a text is matched with one label, not with a distribution"
            )
        return super().read(options, row, stats)

    @classmethod
    def fit(cls, name: str, options: ClassificationOptions, stats: LabelStats) -> Matching:
        assert isinstance(options, MatchingOptions)
        trained = tuple(sorted(stats.labels))
        if len(trained) < 2:
            labels = f"only the label {trained[0]!r}" if trained else "no label at all"
            raise ValueError(f"the training rows hold {labels}; labels are learned from one another: at least two")
        options.require_weights_of(trained)
        classes = (*trained, *sorted(set(options.labels) - set(trained)))
        options.require_positive_of(classes)
        texts = tuple(options.labels.get(label) or spelled(label) for label in classes)
        require_different(dict(zip(classes, texts, strict=True)))
        counts = tuple(stats.labels[label] for label in classes)
        return cls(name, options, classes, counts, descriptions=texts)

    def label_notes(self, stats: LabelStats) -> list[str]:
        unseen = [label for label in self.classes if not stats.labels[label]]
        listing = ", ".join(map(repr, unseen[:MOST_LISTED])) + (
            f" and {len(unseen) - MOST_LISTED} more" if len(unseen) > MOST_LISTED else ""
        )
        return (
            [f"`labels` describes {listing}, which no row has: such a label is predicted from its text alone"]
            if unseen
            else []
        )

    @property
    def answer_size(self) -> int:
        return len(self.classes)

    @property
    def label_texts(self) -> tuple[str, ...]:
        return self.descriptions

    @property
    def rate_bound(self) -> RateBound | None:
        return _BOUND

    @property
    def label_targets(self) -> tuple[int, ...]:
        return tuple(LABEL_TEXT - place for place in range(self._trained))

    @property
    def _trained(self) -> int:
        """Number of labels that the training rows have."""
        return sum(count > 0 for count in self.counts)

    def against(self, outputs: Outputs, labels: Outputs) -> Outputs:
        return outputs @ labels.T

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        """Return the mean of the windows' vectors."""
        return Answering.averaged(self, outputs, weights)

    def weights(self) -> list[float] | None:
        """Return the weight of each label of the training rows, or None if all weigh the same."""
        chosen = self.options.class_weights
        trained = self._trained
        if isinstance(chosen, dict):
            return [chosen[label] for label in self.classes[:trained]]
        return None if chosen is None else balanced_weights(self.counts[:trained])

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the texts' logits for the labels of the training rows, and their targets.

        Args:
            outputs, targets: outputs and targets of texts and of labels' texts, in any order.
        """
        import torch

        is_label = targets <= LABEL_TEXT
        indices = LABEL_TEXT - targets[is_label]
        labels = outputs[is_label][torch.argsort(indices)]
        return outputs[~is_label] @ labels.T, targets[~is_label]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits, classes = self.logits(outputs, targets)
        if not len(classes):
            return outputs.sum() * 0.0
        return cross_entropy(logits, classes, self.weights(), self.options.label_smoothing)

    def loss_denominator(self, targets: Tensor) -> float:
        return known_denominator(targets[targets > LABEL_TEXT], self.weights())

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return 1 - cosine between the texts' vectors and the teacher's, summed."""
        known = targets >= 0
        distances = direction_loss(outputs[known], teacher_logits[known])
        weights = self.weights()
        return (distances if weights is None else distances * outputs.new_tensor(weights)[targets[known]]).sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, classes = self.logits(outputs, targets)
        sums, counts = outputs.new_zeros(self.answer_size), outputs.new_zeros(self.answer_size)
        if len(classes):
            trained = self._trained
            sums[:trained], counts[:trained] = super().training_errors(logits, classes)
        return sums, counts

    def with_labels(self, labels: Mapping[Any, Any] | list[Any]) -> Matching:
        listed = [label_text(label) for label in labels] if isinstance(labels, list) else []
        twice = next((label for label in listed if listed.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"found the label {twice!r} twice")
        if not labels:
            raise ValueError("found no label; expected labels with their texts, or a list of labels")
        changes = described({label: spelled(label) for label in listed} if isinstance(labels, list) else labels)
        for label in (label for label, text in changes.items() if text is None and label not in self.classes):
            raise ValueError(
                f"{label!r} cannot be removed, as the model does not have it; {nearest(label, self.classes)}"
            )
        texts: dict[str, str | None] = {**dict(zip(self.classes, self.descriptions, strict=True)), **changes}
        remaining = {label: text for label, text in texts.items() if text is not None}
        if len(remaining) < 2:
            raise ValueError(f"{len(remaining)} labels are left; a text is matched with one of two labels or more")
        require_different(remaining)
        counts = dict(zip(self.classes, self.counts, strict=True))
        return replace(
            self,
            classes=tuple(remaining),
            counts=tuple(counts.get(label, 0) for label in remaining),
            descriptions=tuple(remaining.values()),
        )


def described(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return labels, spelled as in rows, with their texts. Raises ValueError if a value is not a text."""
    descriptions: dict[str, Any] = {}
    for label, text in value.items():
        name = label_text(label)
        if name in descriptions:
            raise ValueError(f"found the label {name!r} twice")
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise ValueError(
                f"the label {name!r} is described by {text!r}; expected a text, such as `{name}: news about it`"
            )
        for written in (name, text or ""):
            require_whole(written)
        descriptions[name] = text
    return descriptions


def spelled(label: str) -> str:
    """Return the words of a label's name, separated by spaces.

    >>> spelled("PlayMusic"), spelled("Sci/Tech"), spelled("card_arrival-late"), spelled("IT")
    ('play music', 'Sci/Tech', 'card arrival late', 'IT')
    """
    words = re.sub(r"[_\-]+", " ", label).split()
    parts = [part for word in words for part in re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word).split()]
    joined = " ".join(parts)
    return joined.lower() if len(parts) > len(words) else joined or label


def require_different(labels: Mapping[str, str]) -> None:
    """Raise ValueError if two labels have the same text."""
    label_of: dict[str, str] = {}
    for label, text in labels.items():
        other = label_of.setdefault(text.strip().casefold(), label)
        if other != label:
            raise ValueError(
                f"the labels {other!r} and {label!r} have the same text {text!r}; describe them differently"
            )
