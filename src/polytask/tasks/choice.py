"""The base class of tasks that choose one of several classes, for a text or for each word."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polytask.tasks.arrays import Bools, Floats, Outputs, softmax
from polytask.tasks.calibrated import Calibrated
from polytask.tasks.calibration import CalibratedOptions, fit_temperature
from polytask.terms import Label

if TYPE_CHECKING:
    from torch import Tensor


class ChoiceOptions(CalibratedOptions):
    """Options of a task that chooses one of several classes."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of each target that is spread over all classes"
    )

    learning: ClassVar[tuple[str, ...]] = ("label_smoothing",)


class Choice(Calibrated):
    """A task whose outputs are logits of mutually exclusive classes.

    Attributes:
        temperature: divisor of the logits before the softmax.
    """

    temperature: float

    @abstractmethod
    def weights(self) -> list[float] | None:
        """Return the weight of each class, or None if all weigh the same."""

    @abstractmethod
    def targets(self, labels: Sequence[Label], words: Sequence[Sequence[int]] | None) -> NDArray[np.int64]:
        """Return the true class of each decision, or -100; at word level, a decision is a word with its own token."""

    @property
    def unit(self) -> tuple[float, float]:
        return 1.0 / self.temperature, 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets, self.weights(), self.options.label_smoothing)

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        return soft_cross_entropy(outputs, targets, teacher_logits, self.weights())

    def loss_denominator(self, targets: Tensor) -> float:
        return known_denominator(targets, self.weights())

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """1 - probability of the true class; for soft labels, their total variation distance to the prediction."""
        import torch

        if targets.is_floating_point():
            known = targets.sum(-1) > 0
            shares = targets[known].to(outputs.dtype)
            apart = (shares - outputs[known].softmax(-1)).abs().sum(-1) / 2
            classes = torch.nn.functional.one_hot(shares.argmax(-1), outputs.shape[1]).to(outputs.dtype)
            return apart @ classes, classes.sum(0)
        known = targets >= 0
        labels = targets[known]
        missing = 1 - outputs[known].softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)
        counts = torch.bincount(labels, minlength=outputs.shape[1]).to(outputs.dtype)
        return torch.zeros_like(counts).index_add(0, labels, missing), counts

    def temperature_for(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None
    ) -> tuple[float, list[str]]:
        return fit_temperature(outputs, self.targets(labels, words))

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        scaled = (outputs / self.temperature).astype(np.float64)
        return softmax(scaled).max(-1, initial=0.0), scaled.argmax(-1) == self.targets(labels, words)


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weight each class inversely to its frequency, so that the mean over the training rows is 1."""
    total = sum(counts)
    return [total / (len(counts) * count) for count in counts]


def cross_entropy(outputs: Tensor, targets: Tensor, weights: list[float] | None, smoothing: float) -> Tensor:
    """Return the summed cross-entropy; targets of -100 are ignored.

    Args:
        outputs: n x classes.
        targets: n class indices, or n x classes probabilities, where lines of zeros are ignored.
    """
    import torch.nn.functional as F

    weight = None if weights is None else outputs.new_tensor(weights)
    if targets.is_floating_point():
        known = targets.sum(-1) > 0
        outputs, targets = outputs[known], targets[known].to(outputs.dtype)
    return F.cross_entropy(outputs, targets, weight=weight, reduction="sum", label_smoothing=smoothing)


def soft_cross_entropy(outputs: Tensor, targets: Tensor, teacher_logits: Tensor, weights: list[float] | None) -> Tensor:
    """Return the summed cross-entropy against a teacher's distribution, each weighted as its target.

    Args:
        outputs, teacher_logits: n x classes, before the softmax.
        targets: n class indices, or -100 for targets to ignore; or n x classes probabilities.
    """
    losses = -(teacher_logits.softmax(-1) * outputs.log_softmax(-1)).sum(-1)
    if targets.is_floating_point():
        weighted = targets if weights is None else targets * targets.new_tensor(weights)
        return (losses * weighted.sum(-1).to(outputs.dtype)).sum()
    known = targets != -100
    factors = known.to(outputs.dtype)
    if weights is not None:
        factors = factors * outputs.new_tensor(weights)[targets.clamp(min=0)]
    return (losses * factors).sum()


def known_denominator(targets: Tensor, weights: list[float] | None) -> float:
    """Return the number of targets that are not -100, or the sum of their weights."""
    if targets.is_floating_point():
        return float((targets if weights is None else targets * targets.new_tensor(weights)).sum())
    known = targets[targets != -100]
    return float(len(known)) if weights is None else sum(weights[index] for index in known.tolist())
