"""Any number of labels per text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from polytask.errors import nearest
from polytask.tasks.arrays import Bools, Floats, Outputs, rounded, sigmoid
from polytask.tasks.calibration import CalibratedOptions, fit_temperature, two_classes
from polytask.tasks.cells import brief, items_in, parts_of
from polytask.tasks.indicators import labels_in_columns, labels_in_list
from polytask.tasks.joined_labels import require_apart
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import label_text, says_nothing
from polytask.tasks.question import Probabilities, TypedQuestion, truth_of
from polytask.tasks.reader import Row
from polytask.tasks.soft import chances, log_share, probable, shares_in, soft_shares, soft_text, stated
from polytask.tasks.task import ON_DEV, Task
from polytask.tasks.task_options import Names  # fmt: skip
from polytask.tasks.thresholds import tune_thresholds
from polytask.terms import HeadSpec, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor


# What an empty cell means, and how to write the other meaning.
_EMPTY = (
    "an empty cell means not labelled; for a row with none of the labels write [] in JSON, or a word of your own that "
    "`no_label` names"
)


class MultilabelOptions(CalibratedOptions):
    """Options of a multi-label task."""

    type: Literal["multilabel"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str | tuple[str, ...] = Field(
        default="labels",
        description="column that holds a list, or labels joined by `separator`; or a list of columns, one for each "
        "label, that hold 0 or 1",
    )
    separator: str = Field(default=",", min_length=1, description="separator of several labels in one text cell")
    classes: Names = Field(
        default=(), description="names of the labels, in order, if each row marks all of them with 1 or 0"
    )
    no_label: str | None = Field(
        default=None,
        min_length=1,
        description="word for rows with none of the labels (an empty cell means that a row is not labelled)",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["tuned"] = Field(
        default="tuned",
        description="probability from which a label is predicted; tuned: the best threshold on dev for each label",
    )
    class_weights: Literal["balanced"] | None = Field(
        default=None, description="balanced: a label's positive rows together weigh as much as its negative rows"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of each target that is spread over both answers"
    )

    @field_validator("no_label")
    @classmethod
    def _a_word_means_one_thing(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value.strip() in info.data.get("unlabelled", ()):
            raise ValueError(
                f"found {value!r}, which `unlabelled` names too: a row is either not labelled or has no label"
            )
        return value

    @model_validator(mode="after")
    def _columns_are_labels(self) -> Self:
        if isinstance(self.label, str):
            return self
        if len(self.label) < 2 or len(set(self.label)) < len(self.label):
            raise ValueError(
                f"found label: [{', '.join(self.label)}]; name two or more different columns, one for each label, or "
                "without brackets the column of a list"
            )
        defaults = type(self).model_fields
        given = [name for name in ("separator", "classes", "no_label") if getattr(self, name) != defaults[name].default]
        if given:
            raise ValueError(
                f"found {given[0]}, which is about the cells of one column, and a column for each label; leave it out"
            )
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The labels that the options name; empty if the rows do."""
        return self.classes if isinstance(self.label, str) else self.label

    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "accuracy")
    learning: ClassVar[tuple[str, ...]] = ("threshold", "class_weights", "label_smoothing")


@dataclass(frozen=True)
class Multilabel(Task):
    """A set of labels, each decided independently (binary relevance)."""

    name: str
    options: MultilabelOptions
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    rows: int
    soft: bool = False
    temperature: float = field(default=1.0, metadata=ON_DEV)
    # Each label's threshold, as an output; if empty, the threshold of the options decides.
    cuts: tuple[float, ...] = field(default=(), metadata=ON_DEV)

    type_name = "multilabel"
    also_called = ("multi-label", "multilabel-classification", "multi-label-classification", "tags", "multi-hot")
    Options = MultilabelOptions
    label_type = "list<string>"
    target_type = "list<float>"
    activation = "sigmoid"
    problem_type = "multi_label_classification"
    missing_hint = f"; {_EMPTY}"

    @classmethod
    def columns(cls, options: MultilabelOptions) -> tuple[str, ...]:
        return (options.label,) if isinstance(options.label, str) else options.label

    @classmethod
    def read(cls, options: MultilabelOptions, row: Row, stats: LabelStats) -> Label:
        if not isinstance(options.label, str):
            marked = labels_in_columns(row, options.label, options)
            stats.labels.update(marked or ())
            return None if marked is None else sorted(marked)
        value = row.get(options.label)
        if says_nothing(value, options):
            return None
        cell = value
        shares = shares_in(value)
        if shares is not None:
            shares = chances(shares, cell)
            stats.soft += 1
            stats.labels.update(dict.fromkeys(shares, 0))
            stats.labels.update(probable(shares))
            return [soft_text(shares)]
        value = _items(value, options, stats)
        if options.classes:
            value = labels_in_list(value, options.classes)
        stats.shortest = min(len(value), len(value) if stats.shortest is None else stats.shortest)
        stats.longest = max(len(value), stats.longest)
        labels = sorted({stats.label(item) for item in value})
        if options.no_label is not None and label_text(options.no_label) in labels:
            if len(labels) > 1:
                raise ValueError(f"found {cell!r}, and {options.no_label!r} means that there is no label")
            labels = []
        stats.labels.update(labels)
        return labels

    @classmethod
    def fit(cls, name: str, options: MultilabelOptions, stats: LabelStats) -> Multilabel:
        classes = tuple(sorted(stats.labels))
        _require_names(options, stats)
        if not classes:
            raise ValueError("the training rows hold no label at all")
        if all(stats.labels[label] == stats.present for label in classes):
            more = f" ({stats.missing} rows are empty: {_EMPTY})" if stats.missing else ""
            raise ValueError(f"every training row has the labels {', '.join(classes)}; there is nothing to learn{more}")
        counts = tuple(stats.labels[label] for label in classes)
        return cls(name, options, classes, counts, stats.present, stats.soft > 0)

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", len(self.classes), self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classes

    def only_label(self, stats: LabelStats) -> str | None:
        if any(count != stats.present for count in stats.labels.values()):
            return None
        return f"the labels {', '.join(sorted(stats.labels))}" if stats.labels else "no label at all"

    def label_notes(self, stats: LabelStats) -> list[str]:
        absent = [label for label in self.options.named if label not in stats.labels]
        return [f"no training row has {', '.join(absent)}, which the model therefore cannot predict"] if absent else []

    def nothing_hint(self, label: str) -> str:
        word = json.dumps(label, ensure_ascii=False)
        return f"{super().nothing_hint(label)}; if it means that a row has none of the labels, `no_label: {word}`"

    @property
    def unit(self) -> tuple[float, float]:
        return 1.0 / self.temperature, 0.0

    def encode(self, label: Label) -> list[float]:
        shares = soft_shares(label)
        if shares is None:
            return self._targets([label])[0].astype(np.float64).tolist()
        return [shares.get(name, 0.0) for name in self.classes]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.classes)}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.options.label_smoothing
        return self._binary(outputs, targets.to(outputs.dtype) * (1 - smoothing) + smoothing / 2)

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """1 - probability of each label in its positive rows; in negative rows it is near 0 from early on."""
        right = targets.to(outputs.dtype)
        return ((1 - outputs.sigmoid()) * right).sum(0), right.sum(0)

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        del targets
        return self._binary(outputs, teacher_logits.sigmoid())

    def _binary(self, outputs: Tensor, probabilities: Tensor) -> Tensor:
        """Return the summed binary cross-entropy against probabilities: rows x labels, both."""
        import torch.nn.functional as F

        weight = None
        if self.options.class_weights == "balanced":
            # A soft label may have a probability below one half in every row.
            weight = outputs.new_tensor([max(self.rows - count, 1) / max(count, 1) for count in self.counts])
        # A row's loss is the mean over labels, so that tasks with many labels weigh the same as others.
        losses = F.binary_cross_entropy_with_logits(outputs, probabilities, pos_weight=weight, reduction="none").mean(
            -1
        )
        return losses.sum()

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        predictions: list[list[str]] = [[] for _ in outputs]
        rows, labels = np.nonzero(self._predicted(outputs))
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            predictions[row].append(self.classes[label])
        return list(predictions)

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        probabilities = sigmoid(outputs / self.temperature).tolist()
        return {
            "labels": [label for label, on in zip(self.classes, self._predicted(outputs).tolist(), strict=True) if on],
            "probabilities": {label: rounded(value) for label, value in zip(self.classes, probabilities, strict=True)},
        }

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        return tuple(TypedQuestion("noul", label=label) for label in self.classes)

    def asked(self, question: TypedQuestion) -> Probabilities:
        label = question.label
        if question.type != "noul" or label is None:
            raise ValueError(
                "each label is decided by itself; ask a noul question for each, with the instructions "
                '{"task": ..., "label": LABEL}'
            )
        if label not in self._places:
            raise ValueError(f"found the label {label[:80]!r}; {nearest(label[:80], self.classes)}")
        place = self._places[label]
        return lambda outputs: truth_of(float(sigmoid(outputs.astype(np.float64) / self.temperature)[place]))

    def _predicted(self, outputs: Outputs) -> Bools:
        return outputs >= self._cut_array

    @cached_property
    def _cut_array(self) -> Floats:
        return np.array(self._cuts())

    def _cuts(self) -> tuple[float, ...]:
        if self.cuts:
            return self.cuts
        fixed = 0.5 if self.options.threshold == "tuned" else self.options.threshold
        return (self.temperature * math.log(fixed / (1 - fixed)),) * len(self.classes)

    @property
    def thresholds(self) -> dict[str, float]:
        probabilities = sigmoid(np.array(self._cuts()) / self.temperature).tolist()
        return {label: rounded(value) for label, value in zip(self.classes, probabilities, strict=True)}

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        shares = chances(stated(answer, self.classes), answer)
        each = (shares.get(label, 0.0) for label in self.classes)
        return [log_share(share) - log_share(1 - share) for share in each]

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        scaled = outputs.astype(np.float64) / self.temperature
        # The logit of the mean probability, computed with logarithms so that it stays finite near 0 and 1.
        yes, no = (
            np.logaddexp.reduce(np.log(weights)[:, None] - np.logaddexp(0.0, sign * scaled), axis=0)
            for sign in (-1.0, 1.0)
        )
        return (self.temperature * (yes - no)).astype(np.float32)

    @property
    def calibrates(self) -> bool:
        return self.options.calibrate

    @property
    def fits_on_dev(self) -> bool:
        return self.options.calibrate or self.options.threshold == "tuned"

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Multilabel, list[str]]:
        del words
        temperature, cuts, notes = 1.0, tuple[float, ...](), list[str]()
        targets = self._targets(labels)
        if self.options.calibrate:
            temperature, notes = fit_temperature(two_classes(outputs), targets.ravel().astype(np.int64))
        if self.options.threshold == "tuned":
            cuts, more = tune_thresholds(outputs, targets, self.classes, self.metric)
            notes = [*notes, *more]
        return replace(self, temperature=temperature, cuts=cuts), notes

    def describe_tuned(self) -> dict[str, Any]:
        description = {"temperature": rounded(self.temperature)} if self.options.calibrate else {}
        return {**description, "thresholds": self.thresholds}

    def uncalibrated(self) -> Multilabel:
        return replace(self, temperature=1.0, cuts=self._cuts())

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        """Return the probability of each decision, and whether it is right, for every label of every row."""
        del words
        predicted = self._predicted(outputs)
        probabilities = sigmoid(outputs.astype(np.float64) / self.temperature)
        probability = np.where(predicted, probabilities, 1.0 - probabilities)
        return probability.ravel(), (predicted == self._targets(labels)).ravel()

    def cross_entropy(self, outputs: Outputs, targets: Floats) -> float | None:
        scaled = (outputs / self.temperature).astype(np.float64)
        losses = np.logaddexp(0.0, scaled) - targets * scaled
        return float(losses.mean()) if losses.size else None

    def _targets(self, labels: Sequence[Label]) -> Bools:
        """Return which labels each row has: rows x labels."""
        matrix = np.zeros((len(labels), len(self.classes)), np.bool_)
        for row, row_labels in enumerate(labels):
            assert isinstance(row_labels, list)
            matrix[row, [self._places[label] for label in row_labels if label in self._places]] = True
        return matrix

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        frequent: list[str] = [
            label for label, count in zip(self.classes, self.counts, strict=True) if 2 * count >= self.rows
        ]
        most = self.classes[self.counts.index(max(self.counts))]
        return [frequent or [most] for _ in labels]


def _items(cell: Any, options: MultilabelOptions, stats: LabelStats) -> list[Any]:  # noqa: ANN401
    """Return the items of a cell. Raises ValueError if it does not hold any number of labels."""
    items = items_in(cell)
    if items is None and isinstance(cell, str) and cell.lstrip()[:1] != "{":
        stats.joined += 1
        items = parts_of(cell, options.separator)
        if not items:
            raise ValueError(f"found {cell!r}, which holds no label; {_EMPTY}")
    if items is None:
        raise ValueError(
            f"found {brief(cell)}; labels are a list, text joined by {options.separator!r}, or an object "
            '{"choices": [...]}'
        )
    return items


def _require_names(options: MultilabelOptions, stats: LabelStats) -> None:
    """Raise ValueError if the labels look like marks (0 and 1), or like several labels joined into one."""
    labels = set(stats.labels)
    marks = any(labels <= names for names in ({"0", "1"}, {"false", "true"}))
    if labels and marks and not options.classes and stats.shortest == stats.longest > 1:
        raise ValueError(
            f"each row lists {stats.longest} times 0 or 1, which marks the labels that the row has; name the "
            "labels in their order: `classes: [first, second, ...]`"
        )
    if stats.joined and "separator" not in options.model_fields_set:
        require_apart(stats, options.separator)
