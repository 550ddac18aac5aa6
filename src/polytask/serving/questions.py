"""The body of `POST /v1/systemone`: its parser, and its form as described in the OpenAPI document."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from polytask.predict.asking import MOST_QUESTIONS
from polytask.predict.record import Record
from polytask.serving.body import KINDS, JsonValues, Reader, RequestRefused, read_fields, read_record
from polytask.serving.messages import Row, clean
from polytask.serving.options import ServeOptions

# Maximum number of values in all questions of a request, and their maximum nesting depth.
MOST_VALUES, MOST_DEPTH = 10_000, 16
UNASKED = 'expected an object {"state": ..., "questions": {NAME: {"type": ..., "instructions": ..., "criteria": ...}}}'
_PLACES = ("model", "state", "questions", "assets")

Content: TypeAlias = str | dict[str, Any] | list[Any]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoulCriteria(_Form):
    """What counts as yes and no, for people and other models; a head has learned its own criteria."""

    true: Content | None = None
    false: Content | None = None


class NoulQuestion(_Form):
    """A yes-no question."""

    type: Literal["noul"]
    instructions: Content | None = Field(
        default=None, description='the task, unless the question has its name: "TASK", or {"task": ..., "label": ...}'
    )
    criteria: NoulCriteria | None = None


class ChoiceQuestion(_Form):
    """A choice between several labels."""

    type: Literal["choice"]
    instructions: Content | None = Field(default=None, description='names the task: "TASK", or {"task": "TASK"}')
    criteria: dict[str, Content | None] = Field(
        min_length=1, description="labels of the task, some or all, in any order"
    )


class ScoreQuestion(_Form):
    """A choice between several ordered levels."""

    type: Literal["score"]
    instructions: Content | None = Field(default=None, description='names the task: "TASK", or {"task": "TASK"}')
    criteria: list[Content] = Field(min_length=1, description="the levels, lowest first")


Question: TypeAlias = Annotated[NoulQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class SystemOneRequest(_Form):
    """Typed questions about one state; one pass answers all of them."""

    model: str = Field(default="", description="name of the served model; optional")
    state: str | tuple[str, str] | Row = Field(description=KINDS)
    questions: dict[str, Question] = Field(
        min_length=1,
        max_length=MOST_QUESTIONS,
        description="questions by name, which is that of a task unless the instructions name one",
    )
    assets: dict[str, Any] = Field(default={}, max_length=0, description="must be empty: no task reads images")


class NoulAnswer(BaseModel):
    """The answer to a yes-no question."""

    type: Literal["noul"]
    noul: float = Field(description="the probability of true")


class ChoiceAnswer(BaseModel):
    """The most probable label."""

    type: Literal["choice"]
    choice: str
    confidence: float = Field(description="position of its probability between chance (0) and certainty (1)")
    probabilities: dict[str, float]


class ScoreAnswer(BaseModel):
    """The mean level."""

    type: Literal["score"]
    score: float
    legend: dict[str, Content] = Field(description="the criteria by level")
    confidence: float = Field(description="1 minus the mean distance to the most probable level, relative to chance")
    probabilities: dict[str, float]


Answer: TypeAlias = Annotated[NoulAnswer | ChoiceAnswer | ScoreAnswer, Field(discriminator="type")]


class Usage(BaseModel):
    """Tokens."""

    input_tokens: int = Field(description="tokens read by the encoder, once for all questions")
    output_tokens: int = Field(description="0: nothing is generated")


class SystemOneResponse(BaseModel):
    """Answers by name of the question."""

    model: str
    answers: dict[str, Answer]
    usage: Usage


class QuestionFault(BaseModel):
    """A problem and its place."""

    loc: list[str | int]
    msg: str
    type: str


class Faults(BaseModel):
    """Why the questions were rejected."""

    detail: list[QuestionFault]


@dataclass(frozen=True)
class QuestionsRequest:
    """A request with typed questions.

    Attributes:
        questions: questions by name: JSON values of limited number, depth and length, not checked further.
    """

    model: str | None
    state: Record
    questions: Mapping[str, Any]


class QuestionsRefused(RequestRefused):
    """A rejected request, with the place of the problem."""

    def __init__(self, status: int, detail: str, *places: str, kind: str = "value_error") -> None:
        self.fault = QuestionFault(loc=["body", *places], msg=detail, type=kind)
        super().__init__(status, detail)


def read_questions(body: bytes, options: ServeOptions) -> QuestionsRequest:
    """Read the body of a request. Raises RequestRefused.

    Takes linear time for any body, and stops at the first value that exceeds a limit.
    """
    try:
        fields = read_fields(body, _READERS, options, UNASKED)
    except json.JSONDecodeError as error:
        raise QuestionsRefused(
            422, f"the body is not JSON: {error.msg} at character {error.pos}", kind="json_invalid"
        ) from None
    except ValueError:  # bytes that are not text
        raise RequestRefused(400, "the body cannot be parsed: expected JSON in UTF-8") from None
    for key in ("state", "questions"):
        if key not in fields:
            raise QuestionsRefused(422, "Field required", key, kind="missing")
    return QuestionsRequest(fields.get("model"), fields["state"], fields["questions"])


@contextmanager
def _at(*places: str) -> Generator[None]:
    """Add the place to the rejection of a value."""
    try:
        yield
    except QuestionsRefused:
        raise
    except RequestRefused as error:
        raise QuestionsRefused(error.status, str(error), *places) from None


def _read_model(values: JsonValues, options: ServeOptions) -> str:
    del options
    with _at("model"):
        if values.next() != '"':
            values.refuse("model", "expected a text")
        return clean(values.scalar())


def _read_state(values: JsonValues, options: ServeOptions) -> Record:
    with _at("state"):
        state: Any = clean(read_record(values, "state", options.max_characters))
        if isinstance(state, list) and len(state) != 2:
            raise RequestRefused(422, f"state: found a list of {len(state)} texts; expected {KINDS}")
        return tuple(state) if isinstance(state, list) else state


def _read_assets(values: JsonValues, options: ServeOptions) -> None:
    del options
    with _at("assets"):
        if values.next() != "{":
            values.refuse("assets", "input should be a valid dictionary")
        for _ in values.names():
            raise RequestRefused(400, "assets: this model reads only texts, not images")


def _read_questions(values: JsonValues, options: ServeOptions) -> dict[str, Any]:
    with _at("questions"):
        if values.next() != "{":
            values.refuse("questions", "input should be a valid dictionary")
        room = _SizeLimit(options.max_characters)
        questions: dict[str, Any] = {}
        for name in values.names():
            if len(questions) == MOST_QUESTIONS:
                raise RequestRefused(
                    422, f"questions: found more than {MOST_QUESTIONS}; at most {MOST_QUESTIONS} a request"
                )
            if clean(name) != name:
                raise RequestRefused(422, "questions: found a name with an unpaired surrogate")
            room.take(name)
            with _at("questions", name[:80]):
                questions[name] = room.read(values)
        if not questions:
            raise RequestRefused(422, "questions: found none; expected at least one")
        return questions


class _SizeLimit:
    """Limit on the values and characters in all questions of a request."""

    def __init__(self, characters: int) -> None:
        self._most = self._characters = characters
        self._values = MOST_VALUES

    def take(self, text: str = "") -> None:
        """Count a value or a key. Raises RequestRefused if the limit is exceeded."""
        self._values -= 1
        self._characters -= len(text)
        if self._values < 0:
            raise RequestRefused(422, f"questions: found more than {MOST_VALUES} values; at most {MOST_VALUES}")
        if self._characters < 0:
            raise RequestRefused(413, f"questions: found more than {self._most} characters; at most {self._most}")

    def read(self, values: JsonValues, depth: int = 0) -> Any:  # noqa: ANN401
        """Read any value."""
        kind = values.next()
        if kind in ("{", "[") and depth == MOST_DEPTH:
            raise RequestRefused(422, f"questions: found values {MOST_DEPTH + 1} deep; at most {MOST_DEPTH}")
        if kind == "{":
            value_by_key: dict[str, Any] = {}
            for key in values.names():
                self.take(key)
                value_by_key[clean(key)] = self.read(values, depth + 1)
            return value_by_key
        if kind == "[":
            return [self.read(values, depth + 1) for _ in values.items()]
        value = clean(values.scalar())
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestRefused(422, "questions: found a number that is not finite")
        self.take(value if isinstance(value, str) else "")
        return value


_READERS: dict[str, Reader] = dict(zip(_PLACES, (_read_model, _read_state, _read_questions, _read_assets), strict=True))
