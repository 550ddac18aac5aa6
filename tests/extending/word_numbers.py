"""A task type that polytask does not have: a number for each word, such as its stress or its reading time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from polytask.custom import METRICS, TASKS, HeadSpec, LabelStats, Task
from polytask.tasks.arrays import Outputs, per_word
from polytask.tasks.labels import says_nothing
from polytask.tasks.reader import Row
from polytask.tasks.tagging import as_words
from polytask.tasks.word import Column, WordOptions
from polytask.terms import Label, WordSpan


@METRICS["word"].register("word_mae", smaller_is_better=True)
def word_mae(truth: Sequence[list[float]], predictions: Sequence[list[float]]) -> float | None:
    """Mean absolute error over all words."""
    pairs = zip(truth, predictions, strict=True)
    errors = [abs(a - b) for row, found in pairs for a, b in zip(row, found, strict=True)]
    return float(np.mean(errors)) if errors else None


class WordNumbersOptions(WordOptions):
    """Options of numbers for words."""

    numbers: Column = Field(default="numbers", description="column of the numbers")

    values_option: ClassVar[str] = "numbers"
    metrics: ClassVar[tuple[str, ...]] = ("word_mae",)


@TASKS.register("word_numbers")
@dataclass(frozen=True)
class WordNumbers(Task):
    """A number for each word, in units of the training words' deviation around their mean."""

    name: str
    options: WordNumbersOptions
    mean: float
    deviation: float

    Options = WordNumbersOptions
    level = "word"
    label_type = "list<double>"
    target_type = "list<float>"
    activation = "identity"

    @classmethod
    def columns(cls, options: WordNumbersOptions) -> tuple[str, ...]:
        return (options.tokens, options.numbers)

    @classmethod
    def read(cls, options: WordNumbersOptions, row: Row, stats: LabelStats) -> Label:
        cell = row.get(options.numbers)
        words = as_words(row.get(options.tokens), options.tokens)
        if says_nothing(cell, options):
            return None
        if not isinstance(cell, list) or words is None or len(cell) != len(words):
            raise ValueError(f"found {cell!r}; each token needs one number")
        numbers = [float(value) for value in cell]
        for value in numbers:
            stats.number(value)
        return numbers

    @classmethod
    def fit(cls, name: str, options: WordNumbersOptions, stats: LabelStats) -> WordNumbers:
        if stats.numbers == 0 or stats.low == stats.high:
            raise ValueError("the training words hold no two different numbers")
        return cls(name, options, stats.mean, math.sqrt(stats.spread / stats.numbers))

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("word", 1, self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    @property
    def unit(self) -> tuple[float, float]:
        return self.deviation, self.mean

    def encode(self, label: Label) -> list[float]:
        assert isinstance(label, list)
        return [(float(value) - self.mean) / self.deviation for value in label]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets.to(outputs.dtype)).square().sum()

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        del targets
        return (outputs - teacher_logits).square().sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        squared = self.loss(outputs, targets).clamp(max=float(len(targets)))
        return squared.unsqueeze(0), outputs.new_tensor([float(len(targets))])

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        assert words is not None
        values = iter((outputs.squeeze(-1) * self.deviation + self.mean).tolist())
        return [per_word([next(values) for word in row if word == 1], row, self.mean) for row in words]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> list[dict[str, Any]]:
        (values,) = self.decode(outputs, [has_token])
        assert isinstance(values, list)
        pairs = zip(words, values, strict=True)
        return [{"start": start, "end": end, "text": text[start:end], "value": value} for (start, end), value in pairs]

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        return [[self.mean] * len(label) if isinstance(label, list) else [] for label in labels]
