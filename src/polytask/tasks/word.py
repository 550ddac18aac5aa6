"""Options shared by the task types with one value for each word."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from polytask.tasks.metric import Level
from polytask.tasks.task_options import TaskOptions


def _number_as_name(value: Any) -> Any:  # noqa: ANN401
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Column: TypeAlias = Annotated[str, BeforeValidator(_number_as_name), WithJsonSchema({"type": ["string", "integer"]})]


class WordOptions(TaskOptions):
    """Options of a task type at word level: the column of the words, and the column with a value for each of them."""

    tokens: Column = Field(default="tokens", description="column of the words; in CoNLL files a column number, from 1")

    level: ClassVar[Level] = "word"
    # Name of the option that names the column of the values.
    values_option: ClassVar[str]
    # Whether a row may have character spans in place of words and tags.
    reads_spans: ClassVar[bool] = False
    # Whether these spans may overlap; they are then read in the form that `nested.join_spans` writes.
    nested_spans: ClassVar[bool] = False

    @property
    def values_column(self) -> str:
        """The column that holds a value for each word."""
        return getattr(self, self.values_option)
