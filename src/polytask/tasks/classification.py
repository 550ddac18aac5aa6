"""One class per text (or pair of texts)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from polytask.errors import nearest
from polytask.tasks.arrays import Bools, Floats, Outputs, rounded, sigmoid, softmax
from polytask.tasks.choice import Choice, ChoiceOptions, balanced_weights
from polytask.tasks.joined_labels import joined_labels_notes
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import label_text, only_item, says_nothing
from polytask.tasks.objective import TargetType
from polytask.tasks.question import Probabilities, TypedQuestion, truth_of
from polytask.tasks.reader import Row
from polytask.tasks.soft import (
    distribution,
    hard,
    log_share,
    most_probable,
    require_label,
    shares_in,
    soft_shares,
    soft_text,
    stated,
)
from polytask.tasks.task import ON_DEV
from polytask.tasks.thresholds import tune_threshold
from polytask.terms import HeadSpec, Label, WordSpan

# Of two labels, the one with a greater probability than this is the more probable one.
_EVEN = 0.5
# A label with a smaller share of the rows is rare: never predicting it has an accuracy above 0.8.
_RARE = 0.2


class ClassificationOptions(ChoiceOptions):
    """Options of a classification task."""

    type: Literal["classification"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str = Field(default="label", description="column that holds the class")
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="weight of each class in the loss; balanced: inversely proportional to its frequency"
    )
    positive: str | None = Field(
        default=None, description="the label that f1, precision, recall, `threshold` and yes-or-no questions are about"
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["tuned"] = Field(
        default=_EVEN,
        description="probability from which the positive of two labels is predicted; tuned: the best threshold on dev",
    )

    @field_validator("positive", mode="before")
    @classmethod
    def _positive_is_read_as_in_the_rows(cls, value: Any) -> Any:  # noqa: ANN401
        return None if value is None else label_text(value)

    @field_validator("class_weights")
    @classmethod
    def _labels_are_read_as_in_the_rows(cls, value: Any) -> Any:  # noqa: ANN401
        return {label_text(label): weight for label, weight in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _a_threshold_is_tuned_for_more_than_one_error(self) -> Self:
        if self.threshold == "tuned" and self.metric in ("precision", "recall"):
            rows = "hardly any row" if self.metric == "precision" else "every row"
            raise ValueError(
                f"found threshold: tuned and metric: {self.metric}, which is best if {rows} is given the label; "
                "set `metric: f1`, or give the threshold as a number"
            )
        return self

    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy", "macro_f1", "micro_f1", "mcc", "f1", "precision", "recall", "roc_auc", "average_precision",
    )  # fmt: skip
    learning: ClassVar[tuple[str, ...]] = ("class_weights", "positive", "threshold")

    def require_positive_of(self, classes: Sequence[str]) -> None:
        """Raise ValueError if the positive label is not one of the classes."""
        if self.positive not in (None, *classes):
            raise ValueError(
                f"positive: found {self.positive!r}, which no training row has; labels: {', '.join(classes)}"
            )

    def require_weights_of(self, classes: Sequence[str]) -> None:
        """Raise ValueError if `class_weights` is a mapping, but not of exactly the classes of the training rows."""
        if isinstance(self.class_weights, dict) and set(self.class_weights) != set(classes):
            absent = sorted(set(classes) - set(self.class_weights))
            unknown = sorted(set(self.class_weights) - set(classes))
            problems = [f"no weight for {', '.join(map(repr, absent))}"] if absent else []
            problems += [f"a weight for {', '.join(map(repr, unknown))}, which no training row has"] if unknown else []
            raise ValueError(
                f"class_weights: found {' and '.join(problems)}; give each label a weight ({', '.join(classes)}), or "
                "write `balanced`"
            )


@dataclass(frozen=True)
class Classification(Choice):
    """Predicts one of several classes.

    Attributes:
        cut: difference of the two logits from which the positive label is predicted; without it, the threshold of the
            options decides.
    """

    name: str
    options: ClassificationOptions
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    soft: bool = False
    temperature: float = field(default=1.0, metadata=ON_DEV)
    cut: float | None = field(default=None, metadata=ON_DEV)

    type_name = "classification"
    also_called = (
        "text-classification", "sequence-classification", "single-label-classification", "multiclass", "multi-class",
        "binary", "binary-classification", "sentiment", "sentiment-analysis", "topic", "intent", "nli", "classifier",
    )  # fmt: skip
    Options = ClassificationOptions
    label_type = "string"
    activation = "softmax"
    problem_type = "single_label_classification"

    @classmethod
    def columns(cls, options: ClassificationOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def read(cls, options: ClassificationOptions, row: Row, stats: LabelStats) -> Label:
        value = only_item(row.get(options.label))
        if says_nothing(value, options):
            return None
        shares = shares_in(value)
        if shares is not None:
            shares = distribution(shares, value)
            stats.soft += 1
            stats.labels.update(dict.fromkeys(shares, 0))
            stats.labels[most_probable(shares)] += 1
            return soft_text(shares)
        require_label(value)
        label = stats.label(value)
        stats.labels[label] += 1
        return label

    @classmethod
    def fit(cls, name: str, options: ClassificationOptions, stats: LabelStats) -> Classification:
        classes = tuple(sorted(stats.labels))
        if len(classes) < 2:
            labels = f"only the label {classes[0]!r}" if classes else "no label at all"
            raise ValueError(f"the training rows hold {labels}; a classification needs at least two classes")
        options.require_weights_of(classes)
        options.require_positive_of(classes)
        task = cls(name, options, classes, tuple(stats.labels[label] for label in classes), stats.soft > 0)
        task.require_decidable()
        return task

    def require_decidable(self) -> None:
        """Raise ValueError if a threshold is set but there are not two labels, one of them positive."""
        if not self._has_threshold:
            return
        problem = f"found threshold: {self.options.threshold}"
        if len(self.classes) != 2:
            raise ValueError(
                f"{problem}, which decides between two labels, and the rows have {len(self.classes)}; leave it out, or "
                "write a task of two labels: the one that matters and `other`"
            )
        if self.positive is None:
            raise ValueError(
                f"{problem}, and neither label is known to be the positive one; write `positive: {self.classes[0]}` or "
                f"`positive: {self.classes[1]}`"
            )

    def require_sound(self, learned: Mapping[str, Any]) -> None:
        super().require_sound(learned)
        self.require_decidable()
        if self.cut is not None and not self._has_threshold:
            raise ValueError(f"{self.name}: cut is {self.cut}, and the options have no threshold")

    def label_notes(self, stats: LabelStats) -> list[str]:
        return [*joined_labels_notes(self.classes), *self._notes_on_rare_label(stats)]

    def _notes_on_rare_label(self, stats: LabelStats) -> list[str]:
        rows = stats.labels.total()
        rare = min(self.classes, key=lambda label: stats.labels[label])
        share = stats.labels[rare] / rows
        if len(self.classes) != 2 or share >= _RARE or self.metric not in ("accuracy", "micro_f1"):
            return []
        positive = "" if self.positive == rare else f"`positive: {rare}`, "
        return [
            f"{100 * share:.1f} % of the rows have the label {rare!r}, so {self.metric} says little; if this label "
            f"matters, write {positive}`metric: f1` and `threshold: tuned`"
        ]

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", len(self.classes), self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classes

    @property
    def target_type(self) -> TargetType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "list<float>" if self.soft else "int"

    def encode(self, label: Label) -> int | list[float]:
        """Return a class index; if training rows hold distributions, the probability of each class."""
        if not self.soft:
            return self._places.get(str(hard(label)), -100)
        shares = soft_shares(label) or {str(label): 1.0}
        return [shares.get(name, 0.0) for name in self.classes]

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
        # With soft labels a class may never be the most probable.
        return balanced_weights([max(count, 1) for count in self.counts])

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return [self.classes[index] for index in self._chosen(outputs).tolist()]

    def _chosen(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the index of the predicted label: the most probable one, or the threshold's decision.

        Args:
            outputs: ... x classes.
        """
        if not self._has_threshold:
            return outputs.argmax(-1)
        yes, no = self._two_places
        return np.where(self._log_odds(outputs) >= self._least, yes, no)

    @property
    def _has_threshold(self) -> bool:
        return self.options.threshold != _EVEN

    @cached_property
    def _two_places(self) -> tuple[int, int]:
        """The indices of the positive label and of the other one."""
        assert self.positive is not None
        place = self._places[self.positive]
        return place, 1 - place

    def _log_odds(self, outputs: Outputs) -> Floats:
        yes, no = self._two_places
        # In float64: a cut may lie between two neighbouring float32 numbers.
        return (outputs[..., yes] - outputs[..., no]).astype(np.float64)

    @property
    def _least(self) -> float:
        """The log odds, before the temperature, from which the positive label is predicted."""
        if self.cut is not None:
            return self.cut
        fixed = _EVEN if self.options.threshold == "tuned" else self.options.threshold
        return self.temperature * math.log(fixed / (1 - fixed))

    @property
    def thresholds(self) -> dict[str, float]:
        if not self._has_threshold or self.positive is None:
            return {}
        probability = sigmoid(np.array([self._least / self.temperature], np.float64))[0]
        return {self.positive: rounded(float(probability))}

    @property
    def fits_on_dev(self) -> bool:
        return self.options.calibrate or self.options.threshold == "tuned"

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Self, list[str]]:
        task, notes = super().tuned(outputs, labels, words)
        cut: float | None = None
        if self.options.threshold == "tuned":
            positive = np.array([label == self.positive for label in labels], np.bool_)
            cut, more = tune_threshold(self._log_odds(outputs), positive, self.metric)
            notes = [*notes, *more]
        return replace(task, cut=cut), notes

    def describe_tuned(self) -> dict[str, Any]:
        temperature = super().describe_tuned() if self.options.calibrate else {}
        return {**temperature, "thresholds": self.thresholds} if self._has_threshold else temperature

    def uncalibrated(self) -> Self:
        return replace(super().uncalibrated(), cut=self._least if self._has_threshold else None)

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        if not self._has_threshold:
            return super().certainty(outputs, labels, words)
        chosen = self._chosen(outputs)
        probabilities = softmax((outputs / self.temperature).astype(np.float64))
        return probabilities[np.arange(len(chosen)), chosen], chosen == self.targets(labels, words)

    def positive_probabilities(self, outputs: Outputs) -> Floats | None:
        if self.positive is None:
            return None
        return softmax(outputs.astype(np.float64) / self.temperature)[..., self._places[self.positive]]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        probabilities = softmax(outputs / self.temperature).tolist()
        return {
            "label": self.classes[int(self._chosen(outputs))],
            "probabilities": {label: rounded(value) for label, value in zip(self.classes, probabilities, strict=True)},
        }

    @property
    def positive(self) -> str | None:
        """The label that means yes: the one that the options name, or `true` if the labels are `true` and `false`."""
        if self.options.positive in self.classes:
            return self.options.positive
        return next((label for label in self.classes if label.lower() == "true"), None) if self._says_truth else None

    @property
    def _says_truth(self) -> bool:
        return sorted(label.lower() for label in self.classes) == ["false", "true"]

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        positive = () if self.positive is None else (TypedQuestion("noul"),)
        return (
            TypedQuestion("choice", self.classes),
            *positive,
            *(TypedQuestion("noul", label=label) for label in self.classes),
        )

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

    def decided(self, question: TypedQuestion, outputs: Outputs) -> str | None:
        if question.type != "choice" or not self._has_threshold or set(question.options) != set(self.classes):
            return None
        return self.classes[int(self._chosen(outputs))]

    def _places_of(self, labels: Sequence[str]) -> list[int]:
        """Return the indices of labels. Raises ValueError for an unknown label."""
        for label in labels:
            if label not in self._places:
                raise ValueError(f"found the label {label[:80]!r}; {nearest(label[:80], self.classes)}")
        return [self._places[label] for label in labels]

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        shares = distribution(stated(answer, self.classes), answer)
        return [log_share(shares.get(label, 0.0)) for label in self.classes]

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        scaled = outputs.astype(np.float64) / self.temperature
        logs = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        mean = np.logaddexp.reduce(logs + np.log(weights)[:, None], axis=0)
        return (self.temperature * mean).astype(np.float32)

    def targets(self, labels: Sequence[Label], words: Sequence[Sequence[int]] | None) -> NDArray[np.int64]:
        del words
        return np.array([self._places.get(str(label), -100) for label in labels], np.int64)

    def cross_entropy(self, outputs: Outputs, targets: Floats) -> float | None:
        scaled = (outputs / self.temperature).astype(np.float64)
        logs = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        known = targets.sum(-1) > 0
        return float(-(targets * logs).sum(-1)[known].mean()) if known.any() else None

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        majority = self.classes[self.counts.index(max(self.counts))]
        return [majority] * len(labels)

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]]:
        return [(str(label), str(prediction)) for label, prediction in zip(labels, predictions, strict=True)]
