"""Requests and responses over HTTP, as described in the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polytask.serving.body import KINDS, UNFORMED, RequestRefused, read_body
from polytask.serving.options import ServeOptions

Row: TypeAlias = dict[str, str | list[str]]


def clean(value: Any) -> Any:  # noqa: ANN401
    """Replace unpaired surrogates, which JSON can contain but text cannot, by question marks."""
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
    """Reject a value that is not a record with one message; a union of three types would give three."""
    pair = _is_texts(value) and len(value) == 2
    row = isinstance(value, dict) and all(isinstance(item, str) or _is_texts(item) for item in value.values())
    if not (isinstance(value, str) or pair or row):
        raise ValueError(f"expected {KINDS}")
    return clean(value)


Text: TypeAlias = Annotated[str | tuple[str, str] | Row, BeforeValidator(_one_of_three)]


class PredictRequest(BaseModel):
    """Texts to predict, and the tasks to run."""

    model_config = ConfigDict(extra="forbid")

    # Stop at the first mistake: a body of a megabyte can contain half a million, and all would be reported.
    texts: Annotated[list[Text], Field(fail_fast=True)] = Field(description=f"each one {KINDS}")
    tasks: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        default=None, min_length=1, description="tasks to run; all by default"
    )


class PredictResponse(BaseModel):
    """Predictions in the order of the texts."""

    predictions: list[dict[str, Any]] = Field(
        description="for each text an object with the prediction of each task: {label, probabilities} for a class, "
        "{labels, probabilities} for "
        "several labels, {label, options, probabilities} for one of a row's own options, "
        "{level, probabilities} and {expected} for a level of a scale (of numbers), {value} for a "
        "number, {vector} for an embedding, a list of {label, start, end, text, score} for entities and tags; start "
        "and end count Unicode code points"
    )
    truncated: list[bool] = Field(description="for each text, whether it was longer than the model reads")
    empty: list[bool] = Field(description="for each text, whether it has no visible characters, so nothing was read")


class TaskDescription(BaseModel):
    """A task of the model."""

    name: str
    type: str
    inputs: list[str] = Field(description="the column of the text, or the two columns of a pair, in a row object")
    labels: list[str] = Field(description="its labels; none for a number")
    options: str | None = Field(
        default=None, description="the column of a row object with the options to choose among, a list of texts"
    )
    range: tuple[float, float] | None = Field(
        description="minimum and maximum number in the training rows; null if unknown, and for labels"
    )
    answer_range: tuple[float, float] | None = Field(
        description="minimum and maximum number that can be predicted; null if unlimited, and for labels"
    )
    typical_range: tuple[float, float] | None = Field(
        description="range of most numbers; null if labels are not numbers"
    )
    metric: str = Field(description="the main metric")
    scores: dict[str, dict[str, float | None]] = Field(description="by split and metric, as measured after training")
    rows: dict[str, int] = Field(description="number of labelled rows by split, on which the scores were measured")
    questions: list[dict[str, Any]] = Field(
        default=[], description="a typed question of each kind that it can answer, in the form of POST /v1/systemone"
    )


class ModelDescription(BaseModel):
    """The model."""

    name: str = Field(description="name given to the server, or else of its folder; empty if it has none")
    encoder: str = Field(description="the pretrained encoder; empty if unknown")
    passes: float | None = Field(
        default=None, description="number of encoder passes for a text with all tasks; null if unknown"
    )


class TasksResponse(BaseModel):
    """The model, its tasks and the server's limits."""

    model: ModelDescription
    tasks: list[TaskDescription]
    max_tokens: int = Field(description="maximum number of tokens of a text that the model reads")
    max_texts: int = Field(description="maximum number of texts per request")
    max_characters: int = Field(description="maximum number of characters per text")
    examples: list[str | tuple[str, str] | Row] = Field(
        description="example texts (or pairs, or rows with options) that the model can read; none is from its "
        "training rows"
    )


class Health(BaseModel):
    """Whether the server is alive and accepts requests."""

    status: str = Field(description="ready or stopping")
    queued: int = Field(description="number of waiting texts")


class Problem(BaseModel):
    """Why a request was rejected."""

    detail: str


def read_request(body: bytes, options: ServeOptions) -> PredictRequest:
    """Read the body of a request. Raises RequestRefused.

    Takes linear time for any body, and stops at the first value that exceeds a limit.
    """
    try:
        return PredictRequest.model_validate(read_body(body, options))
    except json.JSONDecodeError as error:
        raise RequestRefused(422, f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except ValidationError as error:
        raise RequestRefused(
            422, explain(error.errors(include_url=False, include_context=False, include_input=False))
        ) from None
    except ValueError:  # bytes that are not text
        raise RequestRefused(400, "the body cannot be parsed: expected JSON in UTF-8") from None


def explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Describe the errors of a request in one sentence, without repeating any text.

    Args:
        errors: errors as listed by pydantic.
    """
    sentences = [_sentence(error) for error in errors[:3]]
    more = [f"and {len(errors) - 3} more"] if len(errors) > 3 else []
    return "; ".join([*sentences, *more])


def _sentence(error: Mapping[str, Any]) -> str:
    path = error["loc"]
    if not path:
        return UNFORMED
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if error["type"] == "missing":
        return f"{place}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}"
