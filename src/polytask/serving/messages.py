"""What is asked and answered over HTTP, as the OpenAPI document describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polytask.serving.body import KINDS, UNFORMED, RequestRefused, read_body
from polytask.serving.options import ServeOptions

Row: TypeAlias = dict[str, str | list[str]]


def clean(value: Any) -> Any:  # noqa: ANN401
    """Put a question mark for half of a surrogate pair, which JSON can write and no text holds."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value


def _is_texts(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _one_of_three(value: Any) -> Any:  # noqa: ANN401
    """Refuse what is no record in one sentence; a checker that tries three types would give three."""
    pair = _is_texts(value) and len(value) == 2
    row = isinstance(value, dict) and all(isinstance(item, str) or _is_texts(item) for item in value.values())
    if not (isinstance(value, str) or pair or row):
        raise ValueError(f"expected {KINDS}")
    return clean(value)


Text: TypeAlias = Annotated[str | tuple[str, str] | Row, BeforeValidator(_one_of_three)]


class PredictRequest(BaseModel):
    """Texts to answer, and the tasks to answer them for."""

    model_config = ConfigDict(extra="forbid")

    # The first mistake is enough: a body of a megabyte can hold half a million, and each would be told.
    texts: Annotated[list[Text], Field(fail_fast=True)] = Field(description=f"each one {KINDS}")
    tasks: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        default=None, min_length=1, description="only these tasks; by default all"
    )


class PredictResponse(BaseModel):
    """Answers in the order of the texts."""

    predictions: list[dict[str, Any]] = Field(
        description="for each text an object by task: {label, probabilities} for a class, {labels, probabilities} for "
        "several labels, {label, options, probabilities} for one of a row's own options, "
        "{level, probabilities} and {expected} for a level of a scale (of numbers), {value} for a "
        "number, {vector} for an embedding, a list of {label, start, end, text, score} for entities and tags; start "
        "and end count Unicode code points"
    )
    truncated: list[bool] = Field(description="for each text whether it was longer than the model reads")


class TaskDescription(BaseModel):
    """What the model can be asked."""

    name: str
    type: str
    inputs: list[str] = Field(description="the column, or the two columns of a pair, that a row object may use")
    labels: list[str] = Field(description="its labels; none for a number")
    options: str | None = Field(
        default=None, description="the column of a row object that holds the options to choose among, a list of texts"
    )
    range: tuple[float, float] | None = Field(
        description="the least and the greatest number of the training rows; null where it is not known, and for labels"
    )
    answer_range: tuple[float, float] | None = Field(
        description="the least and the greatest number that is answered; null where any number can be, and for labels"
    )
    typical_range: tuple[float, float] | None = Field(
        description="where most numbers lie; null where labels are no numbers"
    )
    metric: str = Field(description="the main metric")
    scores: dict[str, dict[str, float | None]] = Field(description="by split and metric, as measured after training")
    rows: dict[str, int] = Field(description="labelled rows by split; the scores are of those of their split")
    questions: list[dict[str, Any]] = Field(
        default=[], description="a typed question of each kind that it answers, as POST /v1/systemone takes it"
    )


class ModelDescription(BaseModel):
    """Which model this is."""

    name: str = Field(description="as the server was told, else its folder's name; empty where it has none")
    encoder: str = Field(description="the pretrained encoder; empty where it is not known")
    passes: float | None = Field(
        default=None, description="encoder passes of a text that asks for all tasks; null where that is not known"
    )


class TasksResponse(BaseModel):
    """The model, its tasks and the server's limits."""

    model: ModelDescription
    tasks: list[TaskDescription]
    max_tokens: int = Field(description="tokens of a text that the model reads")
    max_texts: int = Field(description="texts of a request")
    max_characters: int = Field(description="characters of a text")
    examples: list[str | tuple[str, str] | Row] = Field(
        description="texts (pairs, rows with options) to try, which the model can read; none of them is from its "
        "training rows"
    )


class Health(BaseModel):
    """Whether the server lives, and takes requests."""

    status: str = Field(description="ready or stopping")
    queued: int = Field(description="texts that wait")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str


def read_request(body: bytes, options: ServeOptions) -> PredictRequest:
    """Read the body of a request. Raises Refused.

    The time is linear in the body, whatever it holds, and reading ends with the first value that is too much.
    """
    try:
        return PredictRequest.model_validate(read_body(body, options))
    except json.JSONDecodeError as error:
        raise RequestRefused(422, f"the body is no JSON: {error.msg} at character {error.pos}") from None
    except ValidationError as error:
        raise RequestRefused(
            422, explain(error.errors(include_url=False, include_context=False, include_input=False))
        ) from None
    except ValueError:  # bytes that are no text
        raise RequestRefused(400, "the body cannot be parsed: expected JSON in UTF-8") from None


def explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with a request, in one sentence; nothing of the texts is repeated.

    Args:
        errors: as pydantic lists them.
    """
    found = [_sentence(error) for error in errors[:3]]
    more = [f"and {len(errors) - 3} more"] if len(errors) > 3 else []
    return "; ".join([*found, *more])


def _sentence(error: Mapping[str, Any]) -> str:
    path = error["loc"]
    if not path:
        return UNFORMED
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if error["type"] == "missing":
        return f"{place}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}"
