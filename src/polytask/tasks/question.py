"""Typed questions: another form of asking a task, answered with a probability for each option.

The three types, their answers and the formulas are those of the protocol `POST /v1/systemone`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from polytask.tasks.arrays import Floats, Outputs

QuestionType: TypeAlias = Literal["noul", "choice", "score"]
QUESTION_TYPES: tuple[QuestionType, ...] = get_args(QuestionType)
# Maps a head's outputs for one text to the probability of each option.
Probabilities: TypeAlias = Callable[[Outputs], Floats]
TRUTH = ("true", "false")


@dataclass(frozen=True)
class TypedQuestion:
    """A question whose answer is a probability for each option.

    Attributes:
        options: names of the choices; the levels of a score, the lowest first, as `"0"`, `"1"`, ...; `TRUTH`.
        label: the label that a `noul` question asks about; None asks about the task's own positive label.
        levels: names of a score's levels, which its answer repeats.
    """

    type: QuestionType
    options: tuple[str, ...] = TRUTH
    label: str | None = None
    levels: tuple[Any, ...] = ()

    @classmethod
    def score(cls, levels: Sequence[Any]) -> TypedQuestion:
        """Return a question about the level of a scale."""
        return cls("score", tuple(str(index) for index in range(len(levels))), levels=tuple(levels))

    def require_order(self, levels: Sequence[str], spelled: Callable[[Any], str] = str) -> None:
        """Raise ValueError if a score's levels are those of a scale in another order: the lowest has to come first.

        Levels with other names are accepted in any order.

        Args:
            levels: levels of the scale.
            spelled: function that spells a level as the scale does.
        """
        named = tuple(spelled(level) for level in self.levels if isinstance(level, str))
        if named != tuple(levels) and sorted(named) == sorted(levels):
            raise ValueError(
                f"the levels go from the lowest up, {', '.join(levels)}, and the question has another order"
            )

    def to_json(self, task: str) -> dict[str, Any]:
        """Return the question in the protocol's form, with instructions that name the task."""
        instructions = {"task": task} if self.label is None else {"task": task, "label": self.label}
        question: dict[str, Any] = {"type": self.type, "instructions": instructions}
        if self.type == "choice":
            question["criteria"] = dict.fromkeys(self.options)
        elif self.type == "score":
            question["criteria"] = list(self.levels)
        return question

    def answer(self, probabilities: Floats, decided: str | None = None) -> dict[str, Any]:
        """Return the answer in the protocol's form.

        Args:
            decided: the option that answers a choice; by default the most probable one.
        """
        values: list[float] = probabilities.tolist()
        by_option = dict(zip(self.options, values, strict=True))
        if self.type == "noul":
            return {"type": "noul", "noul": by_option["true"]}
        best = int(probabilities.argmax()) if decided is None else self.options.index(decided)
        if self.type == "choice":
            confidence = _above_chance(values[best], len(values))
            return {
                "type": "choice", "choice": self.options[best], "confidence": confidence, "probabilities": by_option,
            }  # fmt: skip
        return {
            "type": "score",
            "score": sum(level * value for level, value in enumerate(values)),
            "legend": dict(zip(self.options, self.levels, strict=True)),
            "confidence": _nearness(values, best),
            "probabilities": by_option,
        }


def truth_of(probability: float) -> Floats:
    """Return the probabilities of a `noul` question's two options."""
    return np.array([probability, 1.0 - probability])


def between_levels(place: float, count: int) -> Floats:
    """Return probabilities of the two levels next to a position, with the position as their mean; others get 0.

    Args:
        place: position from 0, the lowest level, to 1, the highest.
        count: number of levels.

    >>> between_levels(0.5, 2).tolist(), between_levels(1.0, 3).tolist()
    ([0.5, 0.5], [0.0, 0.0, 1.0])
    """
    probabilities = np.zeros(count)
    exact = min(max(place, 0.0), 1.0) * (count - 1)
    low = min(int(exact), max(count - 2, 0))
    probabilities[low] = 1.0 - (exact - low)
    if count > 1:
        probabilities[low + 1] = exact - low
    return probabilities


def _above_chance(most: float, count: int) -> float:
    """Return where the greatest probability lies between chance (0) and certainty (1)."""
    return 1.0 if count == 1 else max(0.0, (most - 1 / count) / (1 - 1 / count))


def _nearness(values: Sequence[float], best: int) -> float:
    """Return 1 - the mean distance to the likeliest level, divided by that of a uniform distribution to the middle."""
    count = len(values)
    distance = sum(value * abs(level - best) for level, value in enumerate(values))
    of_chance = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
    return 1.0 if count == 1 else max(0.0, 1 - distance / of_chance)
