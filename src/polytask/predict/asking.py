"""Typed questions about one state: finds the head for each, and computes the answers from the heads' outputs.

Questions have the form of the protocol `POST /v1/systemone`. One pass answers all of them: a task runs once, however
many questions it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from polytask.errors import DataError, nearest
from polytask.predict.record import Record, queries_of
from polytask.tasks import Task
from polytask.tasks.arrays import Outputs
from polytask.tasks.cells import brief
from polytask.tasks.question import QUESTION_TYPES, TRUTH, Probabilities, TypedQuestion

MOST_QUESTIONS = 64
_KEYS = ("type", "instructions", "criteria")
_MAX_LISTED = 20


class QuestionError(DataError):
    """Questions that no head of the model can answer.

    Attributes:
        messages: problems by name of the question; "" for all of them.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        self.messages = messages
        super().__init__(
            "\n".join(f"question {name!r}: {message}" if name else message for name, message in messages.items())
        )


@dataclass(frozen=True)
class PlannedQuestion:
    """A question, and the task whose head answers it."""

    name: str
    task: str
    question: TypedQuestion
    probabilities: Probabilities
    decided: Callable[[Outputs], str | None]

    def answer(self, outputs: Outputs) -> dict[str, Any]:
        """Return the answer in the form of the protocol.

        Args:
            outputs: outputs of the task's head for one text.
        """
        return self.question.answer(self.probabilities(outputs), self.decided(outputs))


def plan_questions(tasks: Mapping[str, Task], questions: Mapping[str, Any]) -> list[PlannedQuestion]:
    """Assign each question to a head. Raises QuestionError naming all questions that no head can answer."""
    if not isinstance(questions, Mapping) or not 0 < len(questions) <= MOST_QUESTIONS:  # pyright: ignore[reportUnnecessaryIsInstance]
        found = f"{len(questions)} questions" if isinstance(questions, Mapping) else brief(questions)  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QuestionError({"": f"questions: found {found}; expected an object of 1 to {MOST_QUESTIONS} by name"})
    planned: list[PlannedQuestion] = []
    wrong: dict[str, str] = {}
    for name, question in questions.items():
        try:
            planned.append(_plan(name, question, tasks))
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise QuestionError(wrong)
    return planned


def require_state(record: Record, tasks: Mapping[str, Task], planned: Sequence[PlannedQuestion]) -> None:
    """Raise QuestionError or DataError if a state lacks the inputs of a planned question's task."""
    chosen = list(dict.fromkeys(question.task for question in planned))
    reading = {name for query in queries_of(0, record, tasks, chosen, "state") for name in query.tasks}
    wrong: dict[str, str] = {}
    for question in planned:
        if question.task not in reading:
            inputs = tasks[question.task].options.inputs
            wanted = (
                inputs.first if inputs.second is None else f"a pair of texts, or {inputs.first} and {inputs.second}"
            )
            wrong[question.name] = f"the task {question.task!r} reads {wanted}, which the state does not contain"
    if wrong:
        raise QuestionError(wrong)


def answer_questions(planned: Sequence[PlannedQuestion], outputs: Mapping[str, Outputs]) -> dict[str, dict[str, Any]]:
    """Return the answers by name of the question.

    Args:
        planned: the questions.
        outputs: outputs of the tasks' heads for the state.
    """
    return {question.name: question.answer(outputs[question.task]) for question in planned}


def askable(tasks: Mapping[str, Task]) -> str:
    """Describe the questions that the model can answer."""
    descriptions = [f"{name}: {kinds}" for name, task in tasks.items() if (kinds := _askable(task))]
    rest = [f"and {len(descriptions) - _MAX_LISTED} more"] if len(descriptions) > _MAX_LISTED else []
    return "; ".join([*descriptions[:_MAX_LISTED], *rest]) or "nothing; no task of this model answers typed questions"


def _askable(task: Task) -> str:
    kinds: list[str] = []
    labels: list[str] = []
    for question in task.typed_questions:
        if question.type == "choice":
            kinds.append(f"choice ({_listed(question.options)})")
        elif question.type == "score":
            kinds.append("score")
        elif question.label is None:
            kinds.append("noul")
        else:
            labels.append(question.label)
    if labels:
        kinds.append(f"noul about a label ({_listed(labels)})")
    return ", ".join(kinds)


def _listed(labels: Sequence[str]) -> str:
    more = [f"and {len(labels) - _MAX_LISTED} more"] if len(labels) > _MAX_LISTED else []
    return ", ".join([*(label[:80] for label in labels[:_MAX_LISTED]), *more])


def _plan(name: str, question: Any, tasks: Mapping[str, Task]) -> PlannedQuestion:  # noqa: ANN401
    kind = question.get("type") if isinstance(question, Mapping) else None
    if kind not in QUESTION_TYPES:
        got = kind if isinstance(question, Mapping) else question
        raise ValueError(f"`type` must be one of {', '.join(QUESTION_TYPES)}, got {brief(got)}")
    for key in question:
        if key not in _KEYS:
            raise ValueError(f"found the key {brief(key)}; {nearest(str(key)[:80], _KEYS)}")
    instructions = question.get("instructions")
    if not _is_content(instructions, or_none=True):
        raise ValueError(f"instructions: found {brief(instructions)}; expected a text, an object or a list")
    typed = _typed(kind, question.get("criteria"), _label_in(instructions))
    task = _task_of(name, instructions, tasks)
    if task is None:
        raise ValueError(
            'no task has this name, and the instructions name none ("TASK" or {"task": "TASK"}); '
            f"what can be asked: {askable(tasks)}"
        )
    try:
        return PlannedQuestion(name, task, typed, tasks[task].asked(typed), partial(tasks[task].decided, typed))
    except ValueError as error:
        can = _askable(tasks[task])
        accepted = f"what it can be asked: {can}" if can else f"what can be asked: {askable(tasks)}"
        raise ValueError(f"the task {task!r} cannot answer it: {error}; {accepted}") from None


def _task_of(name: str, instructions: Any, tasks: Mapping[str, Task]) -> str | None:  # noqa: ANN401
    """Return the task named in the instructions, or else the task with the name of the question."""
    named_task = instructions.get("task") if isinstance(instructions, Mapping) else instructions
    return next(
        (candidate for candidate in (named_task, name) if isinstance(candidate, str) and candidate in tasks), None
    )


def _label_in(instructions: Any) -> str | None:  # noqa: ANN401
    label = instructions.get("label") if isinstance(instructions, Mapping) else None
    return label if isinstance(label, str) else None


def _typed(kind: str, criteria: Any, label: str | None) -> TypedQuestion:  # noqa: ANN401
    """Build a question from its criteria. Raises ValueError if they have another form."""
    if kind == "noul":
        truths = {} if criteria is None else criteria
        if (
            not isinstance(truths, Mapping)
            or not set(truths) <= set(TRUTH)
            or not _contents(truths.values(), or_none=True)
        ):
            raise ValueError('criteria: a noul question takes {"true": ..., "false": ...}, with texts, or none at all')
        return TypedQuestion("noul", label=label)
    if kind == "choice":
        texts = isinstance(criteria, Mapping) and all(isinstance(option, str) for option in criteria)
        if not criteria or not texts or not _contents(criteria.values(), or_none=True):
            raise ValueError(
                'criteria: a choice question needs its options: {"OPTION": "when it applies", "OTHER": null}'
            )
        return TypedQuestion("choice", tuple(criteria))
    if not criteria or not isinstance(criteria, list | tuple) or not _contents(criteria):
        raise ValueError('criteria: a score question needs its levels, the lowest first: ["Can wait", "Today"]')
    return TypedQuestion.score(criteria)


def _contents(values: Any, *, or_none: bool = False) -> bool:  # noqa: ANN401
    return all(_is_content(value, or_none=or_none) for value in values)


def _is_content(value: Any, *, or_none: bool = False) -> bool:  # noqa: ANN401
    return isinstance(value, str | Mapping | list) or (or_none and value is None)
