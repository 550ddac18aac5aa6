"""What is asked and answered over HTTP, as the OpenAPI document describes it."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polytask.errors import PolytaskError, nearest
from polytask.serving.options import ServeOptions

Row: TypeAlias = dict[str, str | list[str]]
# What names no size of the model's, but would take time: tasks may be named again and again, and columns be empty.
MOST_TASKS = MOST_COLUMNS = 1000
UNFORMED = 'expected an object {"texts": [...], "tasks": [...]} with the header Content-Type: application/json'
_KINDS = "a text, a list of two texts, or an object whose values are texts or lists of texts (columns)"


def _clean(value: Any) -> Any:  # noqa: ANN401
    """Put a question mark for half of a surrogate pair, which JSON can write and no text holds."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _is_texts(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _one_of_three(value: Any) -> Any:  # noqa: ANN401
    """Refuse what is no record in one sentence; a checker that tries three types would give three."""
    pair = _is_texts(value) and len(value) == 2
    row = isinstance(value, dict) and all(isinstance(item, str) or _is_texts(item) for item in value.values())
    if not (isinstance(value, str) or pair or row):
        raise ValueError(f"expected {_KINDS}")
    return _clean(value)


Text: TypeAlias = Annotated[str | tuple[str, str] | Row, BeforeValidator(_one_of_three)]


class PredictRequest(BaseModel):
    """Texts to answer, and the tasks to answer them for."""

    model_config = ConfigDict(extra="forbid")

    # The first mistake is enough: a body of a megabyte can hold half a million, and each would be told.
    texts: Annotated[list[Text], Field(fail_fast=True)] = Field(description=f"each one {_KINDS}")
    tasks: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        default=None, min_length=1, description="only these tasks; by default all"
    )


class PredictResponse(BaseModel):
    """Answers in the order of the texts."""

    predictions: list[dict[str, Any]] = Field(
        description="for each text an object by task: {label, probabilities} for a class, {labels, probabilities} for "
        "several labels, {value} for a number, a list of {label, start, end, text, score} for entities and tags; start "
        "and end count Unicode code points"
    )
    truncated: list[bool] = Field(description="for each text whether it was longer than the model reads")


class TaskDescription(BaseModel):
    """What the model can be asked."""

    name: str
    type: str
    inputs: list[str] = Field(description="the column, or the two columns of a pair, that a row object may use")
    labels: list[str] = Field(description="its labels; none for a number")
    usual: tuple[float, float] | None = Field(description="where most numbers lie; null where labels are no numbers")
    metric: str = Field(description="the main metric")
    scores: dict[str, dict[str, float | None]] = Field(description="by split and metric, as measured after training")


class TasksResponse(BaseModel):
    """The model's tasks and the server's limits."""

    tasks: list[TaskDescription]
    max_tokens: int = Field(description="tokens of a text that the model reads")
    max_texts: int = Field(description="texts of a request")
    max_characters: int = Field(description="characters of a text")


class Health(BaseModel):
    """Whether the server lives, and takes requests."""

    status: str = Field(description="ready or stopping")
    queued: int = Field(description="texts that wait")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str


class Refused(PolytaskError):
    """A request that is not answered, with the status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


def read_request(body: bytes, options: ServeOptions) -> PredictRequest:
    """Read the body of a request: its sizes first, and then its form. Raises Refused.

    The time is linear in the body, whatever it holds, and no text is copied before all of them are known to be small.
    """
    try:
        found = _parse(body)
    except json.JSONDecodeError as error:
        raise Refused(422, f"the body is no JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError):  # bytes that are no text, numbers of thousands of digits, deep nesting
        raise Refused(400, "the body cannot be parsed: expected JSON in UTF-8, not nested deeply") from None
    if not isinstance(found, dict):
        raise Refused(422, UNFORMED)
    known = PredictRequest.model_fields
    unknown = next((key for key in found if key not in known), None)
    if unknown is not None:
        raise Refused(422, f"found the key {unknown[:80]!r}; {nearest(unknown[:80], known)}")
    _require_small(found, options)
    try:
        return PredictRequest.model_validate(found)
    except ValidationError as error:
        raise Refused(
            422, explain(error.errors(include_url=False, include_context=False, include_input=False))
        ) from None


def _parse(body: bytes) -> Any:  # noqa: ANN401
    """Parse JSON without a search for garbage, which would look ten times at each of 300,000 empty lists."""
    paused = gc.isenabled()
    gc.disable()
    try:
        return json.loads(body)
    finally:
        if paused:
            gc.enable()


def _require_small(found: Mapping[str, Any], options: ServeOptions) -> None:
    """Raise Refused where there are too many texts or tasks, or a text is too long."""
    texts, tasks = found.get("texts"), found.get("tasks")
    if isinstance(tasks, list) and len(tasks) > MOST_TASKS:
        raise Refused(422, f"tasks: found {len(tasks)}; at most {MOST_TASKS} a request")
    if not isinstance(texts, list):
        return
    if len(texts) > options.max_texts:
        raise Refused(422, f"texts: found {len(texts)}; at most {options.max_texts} a request")
    for index, text in enumerate(texts):
        if isinstance(text, dict) and len(text) > MOST_COLUMNS:
            raise Refused(422, f"texts[{index}]: found {len(text)} columns; at most {MOST_COLUMNS}")
        size = _characters(text)
        if size > options.max_characters:
            raise Refused(413, f"texts[{index}]: found {size} characters; at most {options.max_characters}")


def _characters(text: Any) -> int:  # noqa: ANN401
    """Count the characters of a text, a pair or a row; what is none of them counts nothing, and is refused later."""
    if isinstance(text, dict):
        return sum(map(_size, text.values()))
    return sum(map(_size, text)) if isinstance(text, list) else _size(text)


def _size(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, str):
        return len(value)
    return sum(len(item) + 1 for item in value if isinstance(item, str)) if isinstance(value, list) else 0


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
