"""One class a text (or pair of texts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from polytask.errors import nearest
from polytask.tasks.arrays import Floats, Outputs, rounded, softmax
from polytask.tasks.choice import Choice, ChoiceOptions, balanced_weights
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import label_text, says_nothing
from polytask.tasks.question import Probabilities, TypedQuestion, truth_of
from polytask.tasks.reader import Row
from polytask.tasks.task import ON_DEV  # fmt: skip
from polytask.terms import HeadSpec, Label, WordSpan


class ClassificationOptions(ChoiceOptions):
    """Options of a classification task."""

    type: Literal["classification"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str = Field(default="label", description="column that holds the class")
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="weight of each class in the loss; balanced: inverse to its frequency"
    )

    positive: str | None = Field(
        default=None, description="the label that means yes where the task is asked a yes-or-no question (serving)"
    )

    @field_validator("positive", mode="before")
    @classmethod
    def _positive_is_read_as_in_the_rows(cls, value: Any) -> Any:  # noqa: ANN401
        return None if value is None else label_text(value)

    @field_validator("class_weights")
    @classmethod
    def _labels_are_read_as_in_the_rows(cls, value: Any) -> Any:  # noqa: ANN401
        return {label_text(label): weight for label, weight in value.items()} if isinstance(value, dict) else value

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "micro_f1", "mcc")


@dataclass(frozen=True)
class Classification(Choice):
    """One of the label space's classes."""

    name: str
    options: ClassificationOptions
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    temperature: float = field(default=1.0, metadata=ON_DEV)

    type_name = "classification"
    also_called = (
        "text-classification", "sequence-classification", "single-label-classification", "multiclass", "multi-class",
        "binary", "binary-classification", "sentiment", "sentiment-analysis", "topic", "intent", "nli", "classifier",
    )  # fmt: skip
    Options = ClassificationOptions
    label_type = "string"
    target_type = "int"
    activation = "softmax"
    problem_type = "single_label_classification"

    @classmethod
    def columns(cls, options: ClassificationOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def read(cls, options: ClassificationOptions, row: Row, stats: LabelStats) -> Label:
        value = row.get(options.label)
        if says_nothing(value, options):
            return None
        label = stats.label(value)
        stats.labels[label] += 1
        return label

    @classmethod
    def fit(cls, name: str, options: ClassificationOptions, stats: LabelStats) -> Classification:
        classes = tuple(sorted(stats.labels))
        if len(classes) < 2:
            found = f"only the label {classes[0]!r}" if classes else "no label at all"
            raise ValueError(f"the training rows hold {found}; a classification needs at least two classes")
        if isinstance(options.class_weights, dict) and set(options.class_weights) != set(classes):
            odd = sorted(set(options.class_weights) ^ set(classes))
            raise ValueError(f"class_weights and the labels differ in {odd}; labels: {', '.join(classes)}")
        if options.positive not in (None, *classes):
            raise ValueError(
                f"positive: found {options.positive!r}, which no training row has; labels: {', '.join(classes)}"
            )
        return cls(name, options, classes, tuple(stats.labels[label] for label in classes))

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", len(self.classes), self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classes

    def encode(self, label: Label) -> int:
        return self._places.get(str(label), -100)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.classes)}

    def weights(self) -> list[float] | None:
        """Return the weight of each class, or None when all weigh the same."""
        chosen = self.options.class_weights
        if chosen is None:
            return None
        if isinstance(chosen, dict):
            return [chosen[label] for label in self.classes]
        return balanced_weights(self.counts)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return [self.classes[index] for index in outputs.argmax(-1).tolist()]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        probabilities = softmax(outputs / self.temperature).tolist()
        return {
            "label": self.classes[int(outputs.argmax())],
            "probabilities": {label: rounded(value) for label, value in zip(self.classes, probabilities, strict=True)},
        }

    @property
    def positive(self) -> str | None:
        """The label that means yes: the one that the options name, or `true` beside `false`."""
        if self.options.positive is not None:
            return self.options.positive
        return next((label for label in self.classes if label.lower() == "true"), None) if self._says_truth else None

    @property
    def _says_truth(self) -> bool:
        return sorted(label.lower() for label in self.classes) == ["false", "true"]

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        own = () if self.positive is None else (TypedQuestion("noul"),)
        return TypedQuestion("choice", self.classes), *own, *(TypedQuestion("noul", label=one) for one in self.classes)

    def asked(self, question: TypedQuestion) -> Probabilities:
        if question.type == "choice":
            places = self._places_of(question.options)
            return lambda outputs: softmax(outputs[places].astype(np.float64) / self.temperature)
        if question.type == "score":
            raise ValueError("the labels are classes without an order; ask a choice question")
        label = self.positive if question.label is None else question.label
        if label is None:
            raise ValueError(
                "no label of the task is known to mean yes; name it in the configuration (`positive: LABEL`) before "
                'training, or in the question: {"task": ..., "label": LABEL} as instructions'
            )
        (place,) = self._places_of([label])
        return lambda outputs: truth_of(softmax(outputs.astype(np.float64) / self.temperature)[place])

    def _places_of(self, labels: Sequence[str]) -> list[int]:
        """Return the places of labels. Raises ValueError for one that the task does not know."""
        for label in labels:
            if label not in self._places:
                raise ValueError(f"found the label {label[:80]!r}; {nearest(label[:80], self.classes)}")
        return [self._places[label] for label in labels]

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        scaled = outputs.astype(np.float64) / self.temperature
        logs = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        mean = np.logaddexp.reduce(logs + np.log(weights)[:, None], axis=0)
        return (self.temperature * mean).astype(np.float32)

    def targets(self, labels: Sequence[Label], words: Sequence[Sequence[int]] | None) -> NDArray[np.int64]:
        del words
        return np.array([self.encode(label) for label in labels], np.int64)

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        majority = self.classes[self.counts.index(max(self.counts))]
        return [majority] * len(labels)

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]]:
        return [(str(label), str(prediction)) for label, prediction in zip(labels, predictions, strict=True)]
