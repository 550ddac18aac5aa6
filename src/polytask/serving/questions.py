"""The body of `POST /v1/systemone`, read value by value, and its form as the OpenAPI document describes it."""

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

# Values in all questions of a request, and how deep they may lie in one another.
MOST_VALUES, MOST_DEPTH = 10_000, 16
UNASKED = (
    'expected an object {"state": ..., "questions": {NAME: {"type": ..., "instructions": ..., "criteria": ...}}} with '
    "the header Content-Type: application/json"
)
_PLACES = ("model", "state", "questions", "assets")

Content: TypeAlias = str | dict[str, Any] | list[Any]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoulCriteria(_Form):
    """What counts as yes and as no, for people and for other models: a head knows its own."""

    true: Content | None = None
    false: Content | None = None


class NoulQuestion(_Form):
    """Whether something is so."""

    type: Literal["noul"]
    instructions: Content | None = Field(
        default=None, description='names the task, where the question does not: "TASK", or {"task": ..., "label": ...}'
    )
    criteria: NoulCriteria | None = None


class ChoiceQuestion(_Form):
    """Which of several labels it is."""

    type: Literal["choice"]
    instructions: Content | None = Field(default=None, description='names the task: "TASK", or {"task": "TASK"}')
    criteria: dict[str, Content | None] = Field(
        min_length=1, description="labels of the task, all or some, in any order"
    )


class ScoreQuestion(_Form):
    """Which of several levels it is."""

    type: Literal["score"]
    instructions: Content | None = Field(default=None, description='names the task: "TASK", or {"task": "TASK"}')
    criteria: list[Content] = Field(min_length=1, description="the levels, the lowest first")


Question: TypeAlias = Annotated[NoulQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class SystemOneRequest(_Form):
    """Typed questions about one state; one pass answers all of them."""

    model: str = Field(default="", description="the name of the model that is served; may be left out")
    state: str | tuple[str, str] | Row = Field(description=KINDS)
    questions: dict[str, Question] = Field(
        min_length=1, max_length=MOST_QUESTIONS, description="by name: a task's, unless the instructions name one"
    )
    assets: dict[str, Any] = Field(default={}, max_length=0, description="none: no task reads images")


class NoulAnswer(BaseModel):
    """How probable it is."""

    type: Literal["noul"]
    noul: float = Field(description="the probability of true")


class ChoiceAnswer(BaseModel):
    """The likeliest label."""

    type: Literal["choice"]
    choice: str
    confidence: float = Field(description="how far its probability lies between that of chance (0) and certainty (1)")
    probabilities: dict[str, float]


class ScoreAnswer(BaseModel):
    """The mean level."""

    type: Literal["score"]
    score: float
    legend: dict[str, Content] = Field(description="the criteria by level")
    confidence: float = Field(description="1 less the mean distance to the likeliest level, in units of chance")
    probabilities: dict[str, float]


Answer: TypeAlias = Annotated[NoulAnswer | ChoiceAnswer | ScoreAnswer, Field(discriminator="type")]


class Usage(BaseModel):
    """Tokens."""

    input_tokens: int = Field(description="that the encoder read, once for all questions")
    output_tokens: int = Field(description="0: nothing is generated")


class SystemOneResponse(BaseModel):
    """Answers by the names of the questions."""

    model: str
    answers: dict[str, Answer]
    usage: Usage


class QuestionFault(BaseModel):
    """What is wrong, and where."""

    loc: list[str | int]
    msg: str
    type: str


class Faults(BaseModel):
    """Why the questions were not answered."""

    detail: list[QuestionFault]


@dataclass(frozen=True)
class QuestionsRequest:
    """What a request asks.

    Attributes:
        questions: by name, of JSON values whose number, depth and length are within the limits; nothing else is sure.
    """

    model: str | None
    state: Record
    questions: Mapping[str, Any]


class QuestionsRefused(RequestRefused):
    """A request that is not answered, with the place of what is wrong."""

    def __init__(self, status: int, detail: str, *places: str, kind: str = "value_error") -> None:
        self.fault = QuestionFault(loc=["body", *places], msg=detail, type=kind)
        super().__init__(status, detail)


def read_asking(body: bytes, options: ServeOptions) -> QuestionsRequest:
    """Read the body of a request. Raises Refused.

    The time is linear in the body, whatever it holds, and reading ends with the first value that is too much.
    """
    try:
        found = read_fields(body, _READERS, options, UNASKED)
    except json.JSONDecodeError as error:
        raise QuestionsRefused(
            422, f"the body is no JSON: {error.msg} at character {error.pos}", kind="json_invalid"
        ) from None
    except ValueError:  # bytes that are no text
        raise RequestRefused(400, "the body cannot be parsed: expected JSON in UTF-8") from None
    for key in ("state", "questions"):
        if key not in found:
            raise QuestionsRefused(422, "Field required", key, kind="missing")
    return QuestionsRequest(found.get("model"), found["state"], found["questions"])


@contextmanager
def _at(*places: str) -> Generator[None]:
    """Tell where a value was refused."""
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
            values.refuse("model", "input should be a valid string")
        return clean(values.scalar())


def _read_state(values: JsonValues, options: ServeOptions) -> Record:
    with _at("state"):
        found: Any = clean(read_record(values, "state", options.max_characters))
        if isinstance(found, list) and len(found) != 2:
            raise RequestRefused(422, f"state: found a list of {len(found)} texts; expected {KINDS}")
        return tuple(found) if isinstance(found, list) else found


def _read_assets(values: JsonValues, options: ServeOptions) -> None:
    del options
    with _at("assets"):
        if values.next() != "{":
            values.refuse("assets", "input should be a valid dictionary")
        for _ in values.names():
            raise RequestRefused(400, "assets: this model reads texts alone, and no images")


def _read_questions(values: JsonValues, options: ServeOptions) -> dict[str, Any]:
    with _at("questions"):
        if values.next() != "{":
            values.refuse("questions", "input should be a valid dictionary")
        room = _SizeLimit(options.max_characters)
        found: dict[str, Any] = {}
        for name in values.names():
            if len(found) == MOST_QUESTIONS:
                raise RequestRefused(
                    422, f"questions: found more than {MOST_QUESTIONS}; at most {MOST_QUESTIONS} a request"
                )
            if clean(name) != name:
                raise RequestRefused(422, "questions: found a name with half of a surrogate pair, which no text holds")
            room.take(name)
            with _at("questions", name[:80]):
                found[name] = room.read(values)
        if not found:
            raise RequestRefused(422, "questions: found none; expected at least one")
        return found


class _SizeLimit:
    """Room for so many values and characters in all questions of a request."""

    def __init__(self, characters: int) -> None:
        self._most = self._characters = characters
        self._values = MOST_VALUES

    def take(self, text: str = "") -> None:
        """Take the room of a value, or of a key. Raises Refused where there is none left."""
        self._values -= 1
        self._characters -= len(text)
        if self._values < 0:
            raise RequestRefused(422, f"questions: found more than {MOST_VALUES} values; at most {MOST_VALUES}")
        if self._characters < 0:
            raise RequestRefused(413, f"questions: found more than {self._most} characters; at most {self._most}")

    def read(self, values: JsonValues, depth: int = 0) -> Any:  # noqa: ANN401
        """Take any value."""
        kind = values.next()
        if kind in ("{", "[") and depth == MOST_DEPTH:
            raise RequestRefused(422, f"questions: found values {MOST_DEPTH + 1} deep; at most {MOST_DEPTH}")
        if kind == "{":
            found: dict[str, Any] = {}
            for key in values.names():
                self.take(key)
                found[clean(key)] = self.read(values, depth + 1)
            return found
        if kind == "[":
            return [self.read(values, depth + 1) for _ in values.items()]
        value = clean(values.scalar())
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestRefused(422, "questions: found a number that is not finite")
        self.take(value if isinstance(value, str) else "")
        return value


_READERS: dict[str, Reader] = dict(zip(_PLACES, (_read_model, _read_state, _read_questions, _read_assets), strict=True))
