"""One class a text (or pair of texts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polytask.tasks.calibration import CalibratedOptions, fit_temperature
from polytask.tasks.task import (
    MISSING,
    ON_DEV,
    Bools,
    Floats,
    Outputs,
    Row,
    Tally,
    Task,
    label_text,
    ordered_metrics,
    rounded,
    softmax,
)  # fmt: skip
from polytask.terms import Gold, HeadSpec, Word

if TYPE_CHECKING:
    from torch import Tensor


class ClassificationOptions(CalibratedOptions):
    """Options of a classification task."""

    type: Literal["classification"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str = Field(default="label", description="column that holds the class")
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="weight of each class in the loss; balanced: inverse to its frequency"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "micro_f1", "mcc")


@dataclass(frozen=True)
class Classification(Task):
    """One of the label space's classes."""

    name: str
    options: ClassificationOptions
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    temperature: float = field(default=1.0, metadata=ON_DEV)

    type_name = "classification"
    Options = ClassificationOptions
    gold_type = "string"
    activation = "softmax"
    problem_type = "single_label_classification"

    @classmethod
    def columns(cls, options: ClassificationOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def read(cls, options: ClassificationOptions, row: Row, tally: Tally) -> Gold:
        value = row.get(options.label)
        if isinstance(value, list | dict) or value not in MISSING:
            label = label_text(value)
            tally.labels[label] += 1
            return label
        return None

    @classmethod
    def fit(cls, name: str, options: ClassificationOptions, tally: Tally) -> Classification:
        classes = tuple(sorted(tally.labels))
        if len(classes) < 2:
            found = f"only the label {classes[0]!r}" if classes else "no label at all"
            raise ValueError(f"the training rows hold {found}; a classification needs at least two classes")
        if isinstance(options.class_weights, dict) and set(options.class_weights) != set(classes):
            odd = sorted(set(options.class_weights) ^ set(classes))
            raise ValueError(f"class_weights and the labels differ in {odd}; labels: {', '.join(classes)}")
        return cls(name, options, classes, tuple(tally.labels[label] for label in classes))

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", len(self.classes), self.options.pooling, self.options.dropout)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ordered_metrics(self.options.metrics, self.options.metric)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classes

    @property
    def unit(self) -> tuple[float, float]:
        return 1.0 / self.temperature, 0.0

    def encode(self, gold: Gold) -> int:
        return self.classes.index(str(gold)) if gold in self.classes else -100

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets, self.class_weights(), self.options.label_smoothing)

    def imitation(self, outputs: Tensor, targets: Tensor, taught: Tensor) -> Tensor:
        return soft_cross_entropy(outputs, targets, taught, self.class_weights())

    def mass(self, targets: Tensor) -> float:
        return known_mass(targets, self.class_weights())

    def class_weights(self) -> list[float] | None:
        """Return the weight of each class, or None when all weigh the same."""
        chosen = self.options.class_weights
        if chosen is None:
            return None
        if isinstance(chosen, dict):
            return [chosen[label] for label in self.classes]
        return balanced_weights(self.counts)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Gold]:
        del words
        return [self.classes[index] for index in outputs.argmax(-1).tolist()]

    def present(self, outputs: Outputs, text: str, words: Sequence[Word], has_token: Sequence[int]) -> dict[str, Any]:
        del text, words, has_token
        probabilities = softmax(outputs / self.temperature).tolist()
        return {
            "label": self.classes[int(outputs.argmax())],
            "probabilities": {label: rounded(value) for label, value in zip(self.classes, probabilities, strict=True)},
        }

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        scaled = outputs.astype(np.float64) / self.temperature
        logs = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        mean = np.logaddexp.reduce(logs + np.log(weights)[:, None], axis=0)
        return (self.temperature * mean).astype(np.float32)

    @property
    def fits_on_dev(self) -> bool:
        return self.options.calibrate

    def tuned(
        self, outputs: Outputs, golds: Sequence[Gold], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Classification, list[str]]:
        del words
        if not self.options.calibrate:
            return self.uncalibrated(), []
        temperature, notes = fit_temperature(outputs, self._targets(golds))
        return replace(self, temperature=temperature), notes

    def describe_tuned(self) -> dict[str, Any]:
        return {"temperature": rounded(self.temperature)}

    def uncalibrated(self) -> Classification:
        return replace(self, temperature=1.0)

    def certainty(
        self, outputs: Outputs, golds: Sequence[Gold], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        del words
        return top_certainty(outputs / self.temperature, self._targets(golds))

    def _targets(self, golds: Sequence[Gold]) -> NDArray[np.int64]:
        return np.array([self.encode(gold) for gold in golds], np.int64)

    def baseline(self, golds: Sequence[Gold]) -> list[Gold]:
        majority = self.classes[self.counts.index(max(self.counts))]
        return [majority] * len(golds)

    def confused(self, golds: Sequence[Gold], found: Sequence[Gold]) -> list[tuple[str, str]]:
        return [(str(gold), str(one)) for gold, one in zip(golds, found, strict=True)]


def top_certainty(outputs: Outputs, targets: NDArray[np.int64]) -> tuple[Floats, Bools]:
    """Return the greatest probability of each decision and whether it is that of the target."""
    return softmax(outputs.astype(np.float64)).max(-1, initial=0.0), outputs.argmax(-1) == targets


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weigh each class inversely to its frequency, so that the mean over the training rows is 1."""
    total = sum(counts)
    return [total / (len(counts) * count) for count in counts]


def cross_entropy(outputs: Tensor, targets: Tensor, weights: list[float] | None, smoothing: float) -> Tensor:
    """Return the summed cross-entropy; targets of -100 do not count.

    Args:
        outputs: n x classes.
        targets: n class indices.
    """
    import torch.nn.functional as F

    weight = None if weights is None else outputs.new_tensor(weights)
    return F.cross_entropy(outputs, targets, weight=weight, reduction="sum", label_smoothing=smoothing)


def soft_cross_entropy(outputs: Tensor, targets: Tensor, taught: Tensor, weights: list[float] | None) -> Tensor:
    """Return the summed cross-entropy against a teacher's distribution; each counts for what its target weighs.

    Args:
        outputs, taught: n x classes, before the softmax.
        targets: n class indices, or -100 for what does not count.
    """
    each = -(taught.softmax(-1) * outputs.log_softmax(-1)).sum(-1)
    known = targets != -100
    factors = known.to(outputs.dtype)
    if weights is not None:
        factors = factors * outputs.new_tensor(weights)[targets.clamp(min=0)]
    return (each * factors).sum()


def known_mass(targets: Tensor, weights: list[float] | None) -> float:
    """Return the number of targets that are not -100, or the sum of their weights."""
    known = targets[targets != -100]
    return float(len(known)) if weights is None else sum(weights[index] for index in known.tolist())
