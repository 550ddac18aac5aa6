"""One level of an ordered scale per text (or pair of texts): a rating, a grade, a severity.

Source: Shi, Cao and Raschka 2021, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional
Probabilities" (CORN), section 3. Output k is the logit of "above level k", given that the level is k or higher; it
learns from the rows for which that is true. The product of the first k probabilities is that of "above level k", which
can only fall with k.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from polytask.errors import nearest
from polytask.tasks.arrays import Bools, Floats, Outputs, rounded
from polytask.tasks.calibrated import Calibrated
from polytask.tasks.calibration import CalibratedOptions, best_temperature, log_softmax
from polytask.tasks.cells import brief
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import comma_hint, label_text, number_in, number_text, says_nothing
from polytask.tasks.question import Probabilities, TypedQuestion
from polytask.tasks.reader import Row
from polytask.tasks.scale import conditional, level_logs, place_of, survival_logits
from polytask.tasks.soft import distribution, log_share, stated
from polytask.tasks.task import ON_DEV
from polytask.terms import HeadSpec, Label, WordSpan  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

# Numbers with more distinct values than this are measurements, not a scale whose every level is learned.
MOST_LEVELS = 100


def level_text(value: Any) -> str:  # noqa: ANN401
    """Return the level in a cell as text: one spelling for each number, and other labels as `label_text` reads them.

    >>> level_text("4.0"), level_text(4), level_text(" 4.50"), level_text(4.5), level_text("good ")
    ('4', '4', '4.5', '4.5', 'good')
    """
    number = number_in(value)
    return label_text(value) if number is None else number_text(number)


def _as_levels(value: Any) -> Any:  # noqa: ANN401
    return [level_text(item) for item in value] if isinstance(value, list | tuple) else value


Levels: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_levels),
    WithJsonSchema({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 2}),
]


class OrdinalOptions(CalibratedOptions):
    """Options of an ordinal task."""

    type: Literal["ordinal"]  # pyright: ignore[reportIncompatibleVariableOverride]
    label: str = Field(default="label", description="column that holds the level")
    levels: Levels = Field(
        default=(), description="all levels, the lowest first; numeric levels default to those of the rows"
    )
    prediction: Literal["median", "mode"] = Field(
        default="median",
        description="which level of the distribution is predicted: the median has the least expected distance, the "
        "mode (the most probable level) is right most often",
    )

    @field_validator("levels")
    @classmethod
    def _levels_are_a_scale(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted(level for level, times in Counter(value).items() if times > 1)
        if twice:
            raise ValueError(f"found {', '.join(map(repr, twice))} twice; name each level once")
        if len(value) == 1:
            raise ValueError(f"found only {value[0]!r}; a scale has at least two levels")
        return value

    metrics: ClassVar[tuple[str, ...]] = ("mae", "quadratic_kappa", "accuracy")


@dataclass(frozen=True)
class Ordinal(Calibrated):
    """Predicts one level of a scale.

    The prediction is the median of the distribution (the highest level that is reached with a probability above 0.5),
    or its mode.

    Attributes:
        levels: all levels, the lowest first.
        temperature: divisor of the logits of "above level k"; medians do not depend on it, modes may.
    """

    name: str
    options: OrdinalOptions
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    temperature: float = field(default=1.0, metadata=ON_DEV)

    type_name = "ordinal"
    also_called = ("ordinal-regression", "ordinal-classification", "levels", "likert", "grade", "grades", "severity")
    Options = OrdinalOptions
    label_type = "string"
    target_type = "int"
    activation = "cumulative"

    @classmethod
    def columns(cls, options: OrdinalOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def numbers_in(cls, options: OrdinalOptions) -> tuple[str, ...]:
        return (options.label,)

    @classmethod
    def read(cls, options: OrdinalOptions, row: Row, stats: LabelStats) -> Label:
        value = row.get(options.label)
        if says_nothing(value, options):
            return None
        level = level_text(value)
        if options.levels and level not in options.levels:
            raise ValueError(f"found {brief(value)}; `levels` names {', '.join(options.levels)}")
        if not options.levels and number_in(value) is None:
            raise ValueError(
                f"found {brief(value)}, and only numbers are ordered by themselves; name all levels, the lowest "
                "first: `levels: [low, middle, high]` (for a cell that is not labelled: leave it empty, or name its "
                f"word with `unlabelled`){comma_hint(value)}"
            )
        if isinstance(value, str) and level != value:
            stats.respelled[value] = level
        stats.labels[level] += 1
        return level

    @classmethod
    def fit(cls, name: str, options: OrdinalOptions, stats: LabelStats) -> Ordinal:
        levels = options.levels or tuple(sorted(stats.labels, key=float))
        if len(stats.labels) < 2:
            levels_found = f"only the level {next(iter(stats.labels))!r}" if stats.labels else "no level at all"
            raise ValueError(f"the training rows hold {levels_found}; an ordinal task needs at least two")
        if not options.levels and len(levels) > MOST_LEVELS:
            raise ValueError(
                f"the training rows hold {len(levels)} different numbers, from {levels[0]} to {levels[-1]}; with more "
                f"than {MOST_LEVELS} levels use `type: regression`, or name the `levels`"
            )
        return cls(name, options, levels, tuple(stats.labels[level] for level in levels))

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", len(self.levels) - 1, self.options.pooling, self.options.dropout)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.levels

    @property
    def scale(self) -> tuple[str, ...]:
        return self.levels

    @cached_property
    def numbers(self) -> tuple[float, ...] | None:
        """The levels as numbers; None if they are words."""
        numbers = tuple(number_in(level) for level in self.levels)
        return None if None in numbers else tuple(number for number in numbers if number is not None)

    def only_label(self, stats: LabelStats) -> str | None:
        return f"the level {next(iter(stats.labels))!r}" if len(stats.labels) == 1 else None

    def label_notes(self, stats: LabelStats) -> list[str]:
        unseen = [level for level in self.levels if not stats.labels[level]]
        notes = (
            [f"no row has the level {', '.join(map(repr, unseen))}, so it is hardly ever predicted"] if unseen else []
        )
        numbers = self.numbers or ()
        if numbers and not self.options.levels and all(number.is_integer() for number in numbers):
            integers = [int(number) for number in numbers]
            # Counted before they are listed: a large range has many.
            missing = integers[-1] - integers[0] + 1 - len(integers)
            if 0 < missing <= len(integers):
                between = sorted(set(range(integers[0], integers[-1])) - set(integers))
                notes.append(
                    f"no row has {', '.join(map(str, between))}, which the scale leaves out; name it in `levels` if it "
                    "is one"
                )
        return notes

    @cached_property
    def _places(self) -> dict[str, int]:
        return {level: index for index, level in enumerate(self.levels)}

    def encode(self, label: Label) -> int:
        return self._places.get(str(label), -100)

    def measured(self, labels: Sequence[Label]) -> list[float]:
        """Return positions on the scale; a number that is not a level lies between its neighbours and never matches."""
        return [float(place_of(str(label), self._places, self.numbers or ())) for label in labels]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of the levels: binary cross-entropies over the conditional subsets.

        Each row counts once, whatever its level; the paper divides by the total size of the subsets.
        """
        import torch
        import torch.nn.functional as F

        steps = torch.arange(outputs.shape[1], device=targets.device)
        reached = (targets[:, None] >= steps).to(outputs.dtype)
        above = (targets[:, None] > steps).to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, above, weight=reached, reduction="sum")

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """The cross-entropy against the teacher's levels, each step weighted by the probability that it is reached."""
        import torch.nn.functional as F

        logs = F.logsigmoid(teacher_logits).cumsum(-1)
        reached = F.pad(logs[:, :-1], (1, 0)).exp() * (targets >= 0).to(outputs.dtype)[:, None]
        above = teacher_logits.sigmoid()
        return F.binary_cross_entropy_with_logits(outputs, above, weight=reached, reduction="sum")

    def loss_denominator(self, targets: Tensor) -> float:
        return float((targets >= 0).sum())

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """1 - probability of the right answer to "above level k", over the rows that reach level k."""
        import torch

        steps = torch.arange(outputs.shape[1], device=targets.device)
        reached = (targets[:, None] >= steps).to(outputs.dtype)
        above = (targets[:, None] > steps).to(outputs.dtype)
        return ((above - outputs.sigmoid()).abs() * reached).sum(0), reached.sum(0)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return [self.levels[index] for index in self._decided(outputs).tolist()]

    def _decided(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return each row's predicted level. The median: how many levels are exceeded with a probability above 0.5."""
        if self.options.prediction == "mode":
            return self._probabilities(outputs).argmax(-1)
        return (survival_logits(outputs) > 0).sum(-1)

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        return TypedQuestion.score(self.levels), TypedQuestion("choice", self.levels)

    def asked(self, question: TypedQuestion) -> Probabilities:
        if question.type == "score":
            if len(question.options) != len(self.levels):
                raise ValueError(
                    f"its scale has {len(self.levels)} levels ({', '.join(self.levels)}), and the question has "
                    f"{len(question.options)}"
                )
            question.require_order(self.levels, level_text)
            return lambda outputs: self._probabilities(outputs[None])[0]
        if question.type != "choice":
            raise ValueError("it answers a level of a scale; ask a score question")
        for level in question.options:
            if level not in self.levels:
                raise ValueError(f"found the level {level[:80]!r}; {nearest(level[:80], self.levels)}")
        places = [self.levels.index(level) for level in question.options]

        def among(outputs: Outputs) -> Floats:
            logs = level_logs(survival_logits(outputs[None]) / self.temperature)[0, places]
            return np.exp(log_softmax(logs[None])[0])

        return among

    def _probabilities(self, outputs: Outputs) -> Floats:
        """Return the probability of each level: rows x levels."""
        return np.exp(level_logs(survival_logits(outputs) / self.temperature))

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        probabilities = self._probabilities(outputs[None])[0]
        expected = {} if self.numbers is None else {"expected": rounded(float(probabilities @ np.array(self.numbers)))}
        return {
            "level": self.levels[int(self._decided(outputs[None])[0])],
            **expected,
            "probabilities": {
                level: rounded(value) for level, value in zip(self.levels, probabilities.tolist(), strict=True)
            },
        }

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        shares = distribution(stated(answer, self.levels), answer)
        probabilities = [shares.get(level, 0.0) for level in self.levels]
        above = np.cumsum(probabilities[::-1])[::-1].tolist()
        return [log_share(above[step + 1]) - log_share(probabilities[step]) for step in range(len(probabilities) - 1)]

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        scaled = survival_logits(outputs) / self.temperature
        yes, no = (
            np.logaddexp.reduce(np.log(weights)[:, None] - np.logaddexp(0.0, sign * scaled), axis=0)
            for sign in (-1.0, 1.0)
        )
        return conditional(self.temperature * (yes - no)).astype(np.float32)

    def temperature_for(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None
    ) -> tuple[float, list[str]]:
        del words
        targets = np.array([self.encode(label) for label in labels], np.int64)
        is_known = targets >= 0
        known, levels = outputs[is_known], targets[is_known]
        logits = survival_logits(known)

        def cost(temperature: float) -> float:
            return -float(level_logs(logits / temperature)[np.arange(len(levels)), levels].mean())

        return best_temperature(cost, self._decided(known) == levels)

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        del words
        decided = self._decided(outputs)
        right = np.array([self.encode(label) for label in labels], np.int64) == decided
        return self._probabilities(outputs)[np.arange(len(decided)), decided], right

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """The median of the training rows, the constant with the least mean absolute error, or their mode."""
        if self.options.prediction == "mode":
            return [self.levels[int(np.argmax(self.counts))]] * len(labels)
        reached = np.cumsum(self.counts)
        return [self.levels[int(np.searchsorted(reached, math.ceil(reached[-1] / 2)))]] * len(labels)

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]]:
        return [(str(label), str(prediction)) for label, prediction in zip(labels, predictions, strict=True)]
