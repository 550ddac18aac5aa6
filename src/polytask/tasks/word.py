"""What task types have in common whose rows hold one value for each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from polytask.tasks.arrays import per_word
from polytask.tasks.metric import Level
from polytask.tasks.objective import Objective
from polytask.tasks.task_options import TaskOptions
from polytask.terms import OWN_TOKEN, SHARED_TOKEN


def _number_as_name(value: Any) -> Any:  # noqa: ANN401
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Column: TypeAlias = Annotated[str, BeforeValidator(_number_as_name), WithJsonSchema({"type": ["string", "integer"]})]


class WordOptions(TaskOptions):
    """Options of a type at word level: the column of the words, and that of a value for each of them."""

    tokens: Column = Field(default="tokens", description="column of the words; in CoNLL a column number from 1")

    level: ClassVar[Level] = "word"
    # The option that names the column of the values.
    values_option: ClassVar[str]
    # Whether a row may give spans of characters in place of words and tags.
    reads_spans: ClassVar[bool] = False

    @property
    def values_column(self) -> str:
        """The column that holds a value for each word."""
        return getattr(self, self.values_option)


def lost_words(task: Objective, targets: Sequence[float], words: Sequence[int]) -> int:
    """Count the words of a row that share a token which does not tell their value; of types at word level.

    Args:
        targets: of all words, from `encode`.
        words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
    """
    own = [target for target, word in zip(targets, words, strict=True) if word == OWN_TOKEN]
    told = per_word(own, words, -100.0)
    pairs = zip(told, targets, words, strict=True)
    return sum(task.continued(first) != target for first, target, word in pairs if word == SHARED_TOKEN)
