"""Typed questions: what a task can be asked beside its own form of answer, and how the probabilities are told.

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
# Turns a head's outputs for one text into the probability of each option.
Probabilities: TypeAlias = Callable[[Outputs], Floats]
TRUTH = ("true", "false")


@dataclass(frozen=True)
class TypedQuestion:
    """A question whose answer is a probability of each option.

    Attributes:
        options: names of the choices; the levels of a score, the lowest first, as `"0"`, `"1"`, ...; `TRUTH`.
        label: whether the text has this label, is what a `noul` question asks; None asks for the task's own true label.
        levels: what a score's levels are called, which its answer repeats.
    """

    type: QuestionType
    options: tuple[str, ...] = TRUTH
    label: str | None = None
    levels: tuple[Any, ...] = ()

    @classmethod
    def score(cls, levels: Sequence[Any]) -> TypedQuestion:
        """Return a question for a level."""
        return cls("score", tuple(str(index) for index in range(len(levels))), levels=tuple(levels))

    def require_order(self, levels: Sequence[str], spelled: Callable[[Any], str] = str) -> None:
        """Raise ValueError where a score's levels are those of a scale in another order: they go from the lowest up.

        Levels that are called otherwise are taken as they come.

        Args:
            levels: of the scale.
            spelled: returns a level as the scale writes it.
        """
        named = tuple(spelled(level) for level in self.levels if isinstance(level, str))
        if named != tuple(levels) and sorted(named) == sorted(levels):
            raise ValueError(
                f"the levels go from the lowest up, {', '.join(levels)}, and the question has them otherwise"
            )

    def to_json(self, task: str) -> dict[str, Any]:
        """Return the question as the protocol writes it, with instructions that name the task."""
        about = {"task": task} if self.label is None else {"task": task, "label": self.label}
        found: dict[str, Any] = {"type": self.type, "instructions": about}
        if self.type == "choice":
            found["criteria"] = dict.fromkeys(self.options)
        elif self.type == "score":
            found["criteria"] = list(self.levels)
        return found

    def answer(self, probabilities: Floats, decided: str | None = None) -> dict[str, Any]:
        """Return the answer as the protocol writes it.

        Args:
            decided: the option of a choice that is answered; by default the most probable one.
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
    """Return probabilities of the two levels around a place, whose mean it is; of all others nothing.

    Args:
        place: from 0, the lowest level, to 1, the highest.
        count: of levels.

    >>> between_levels(0.5, 2).tolist(), between_levels(1.0, 3).tolist()
    ([0.5, 0.5], [0.0, 0.0, 1.0])
    """
    found = np.zeros(count)
    exact = min(max(place, 0.0), 1.0) * (count - 1)
    low = min(int(exact), max(count - 2, 0))
    found[low] = 1.0 - (exact - low)
    if count > 1:
        found[low + 1] = exact - low
    return found


def _above_chance(most: float, count: int) -> float:
    """Return how far the greatest probability lies between that of chance and certainty."""
    return 1.0 if count == 1 else max(0.0, (most - 1 / count) / (1 - 1 / count))


def _nearness(values: Sequence[float], best: int) -> float:
    """Return 1 less the mean distance to the likeliest level, in units of that of chance to the middle."""
    count = len(values)
    distance = sum(value * abs(level - best) for level, value in enumerate(values))
    of_chance = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
    return 1.0 if count == 1 else max(0.0, 1 - distance / of_chance)
