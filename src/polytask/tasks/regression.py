"""A number per text (or pair of texts): a rating, an intensity, a similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field

from polytask.tasks.arrays import Floats, Outputs, rounded
from polytask.tasks.cells import brief
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import comma_hint, number_in, says_nothing
from polytask.tasks.objective import Objective
from polytask.tasks.question import Probabilities, TypedQuestion, between_levels
from polytask.tasks.reader import Row
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions
from polytask.terms import HeadSpec, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

_EXPECTED = (
    "a score is a finite number (if it is unknown, leave the cell empty, or name the word in the cell with "
    "`unlabelled`)"
)

# So many numbers are not all written with three decimals by chance.
_SEVERAL = 5


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"found {list(value)}; the first number has to be less than the second")
    return value


Range: TypeAlias = Annotated[tuple[float, float], AfterValidator(_ascending)]


class RegressionOptions(TaskOptions):
    """Options of a regression task."""

    type: Literal["regression"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str = Field(default="score", description="column that holds the number")
    range: Range | None = Field(
        default=None, description="the least and the greatest possible number, which limit predictions too: [1, 5]"
    )

    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "mae")


def _require_within(options: RegressionOptions, number: float) -> None:
    if options.range is not None and not options.range[0] <= number <= options.range[1]:
        low, high = options.range
        raise ValueError(f"found {number:g}; `range` says that scores lie between {low:g} and {high:g}")


@dataclass(frozen=True)
class Regression(Task):
    """Predicts a number; the head's output is standardized by the mean and standard deviation of the training rows.

    Tasks that read it get the standardized number, whose scale is that of the encoder's states.
    """

    name: str
    options: RegressionOptions
    mean: float
    deviation: float

    type_name = "regression"
    also_called = ("similarity", "sts", "semantic-similarity", "sentence-similarity", "score", "rating", "float")
    Options = RegressionOptions
    label_type = "double"
    target_type = "float"
    activation = "identity"
    problem_type = "regression"

    @classmethod
    def columns(cls, options: RegressionOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def numbers_in(cls, options: RegressionOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def read(cls, options: RegressionOptions, row: Row, stats: LabelStats) -> Label:
        value = row.get(options.label)
        if says_nothing(value, options):
            return None
        number = number_in(value)
        if number is None:
            raise ValueError(f"found {brief(value)}; {_EXPECTED}{comma_hint(value)}")
        _require_within(options, number)
        stats.number(number)
        if isinstance(value, str):
            stats.written_number(value)
        return number

    @classmethod
    def fit(cls, name: str, options: RegressionOptions, stats: LabelStats) -> Regression:
        if stats.numbers == 0:
            raise ValueError("the training rows hold no score at all")
        if stats.low == stats.high:
            raise ValueError(f"every training row has the score {stats.low}; there is nothing to learn")
        mean, deviation = stats.mean, math.sqrt(stats.spread / stats.numbers)
        if not 0 < deviation < math.inf:
            raise ValueError(
                f"the scores lie between {stats.low} and {stats.high}, which is beyond the range of numbers"
            )
        return cls(name, options, mean, deviation)

    def label_notes(self, stats: LabelStats) -> list[str]:
        if stats.decimals < _SEVERAL or stats.three_decimals < stats.decimals:
            return []
        return [
            f"all {stats.decimals} numbers with decimals have three of them, such as 1.250 or 12.500, and are read as "
            "such; if the sign before them separates thousands, remove it"
        ]

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", 1, self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    def only_label(self, stats: LabelStats) -> str | None:
        return f"the score {stats.low:g}" if stats.low == stats.high else None

    @property
    def unit(self) -> tuple[float, float]:
        return self.deviation, self.mean

    def encode(self, label: Label) -> float:
        assert isinstance(label, float)
        return (label - self.mean) / self.deviation

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets.to(outputs.dtype)).square().sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The squared errors, divided by the variance of the training labels: 1 is the error of their mean."""
        squared = (outputs.squeeze(-1) - targets.to(outputs.dtype)).square().sum()
        return squared.unsqueeze(0), outputs.new_tensor([float(len(targets))])

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        del targets
        return (outputs - teacher_logits).square().sum()

    def convert_teacher_logits(self, outputs: Tensor, teacher: Objective) -> Tensor:
        assert isinstance(teacher, Regression)
        answers = outputs * teacher.deviation + teacher.mean
        if teacher.options.range is not None:
            answers = answers.clamp(*teacher.options.range)
        return (answers - self.mean) / self.deviation

    def _values(self, outputs: Outputs) -> Floats:
        """Convert outputs to the labels' unit, limited to the range that the options name."""
        values = outputs.astype(np.float64) * self.deviation + self.mean
        return values if self.options.range is None else values.clip(*self.options.range)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return self._values(outputs.squeeze(-1)).tolist()

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        return {"value": rounded(float(self._values(outputs).item()))}

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        value = number_in(answer.get("value") if isinstance(answer, Mapping) else answer)
        if value is None:
            raise ValueError(f"found {brief(answer)}; an answer is a finite number")
        _require_within(self.options, value)
        return [self.encode(value)]

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        if self.options.range is None:
            return super().averaged(outputs, weights)
        within = (self._values(outputs) - self.mean) / self.deviation
        return (weights @ within).astype(np.float32)

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        return [self.mean] * len(labels)

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        ends = self._ends
        return () if ends is None else (TypedQuestion.score([f"{end:g}" for end in ends]),)

    def asked(self, question: TypedQuestion) -> Probabilities:
        if question.type != "score":
            raise ValueError("it answers a number; ask a score question")
        if self._ends is None:
            raise ValueError("its numbers have no known range on which levels could be placed (`range: [LOW, HIGH]`)")
        low, high = self._ends
        count = len(question.options)
        numbers = [number for level in question.levels if (number := number_in(level)) is not None]
        if len(numbers) == count and numbers != sorted(numbers):
            raise ValueError("the levels go from the lowest up, and the question has another order")

        def answer(outputs: Outputs) -> Floats:
            (value,) = self.decode(outputs[None])
            assert isinstance(value, float)
            return between_levels((value - low) / (high - low), count)

        return answer

    @property
    def _ends(self) -> tuple[float, float] | None:
        """The least and the greatest possible number; None if the options do not name them."""
        return self.options.range

    @property
    def typical_range(self) -> tuple[float, float]:
        ends = np.array([self.mean - 2 * self.deviation, self.mean + 2 * self.deviation])
        low, high = ends if self.options.range is None else ends.clip(*self.options.range)
        return rounded(float(low)), rounded(float(high))

    @property
    def answer_range(self) -> tuple[float, float] | None:
        return self.options.range
