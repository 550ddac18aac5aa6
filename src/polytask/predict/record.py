"""Records: what a user asks about, and which text (or pair) each task reads of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.data.words import find_words, join_words, split_words
from polytask.errors import DataError
from polytask.tasks import Task
from polytask.terms import Word

# A text, a pair of texts, or a row with the columns that the tasks were trained on.
Record: TypeAlias = "str | tuple[str, str] | Mapping[str, Any]"


@dataclass(frozen=True)
class Query:
    """One encoding of a record and the tasks that read it.

    Attributes:
        record: the record's place in its window.
    """

    record: int
    text: str
    pair: str | None
    words: list[Word]
    tasks: tuple[str, ...]


def queries_of(index: int, record: Record, tasks: Mapping[str, Task], chosen: Sequence[str], place: str) -> list[Query]:
    """Return a record's encodings: one for each text (or pair) that any of the chosen tasks reads.

    Raises DataError, naming the place, where there is none.
    """
    found: dict[tuple[str, str | None], list[str]] = {}
    given: dict[tuple[str, str | None], list[Word]] = {}
    for name in chosen:
        task = tasks[name]
        inputs = task.options.inputs
        texts = _texts(record, inputs.first, inputs.second, place)
        if texts is not None:
            found.setdefault(texts, []).append(name)
        elif isinstance(record, Mapping) and task.level == "word":
            tokens = record.get(task.options.tokens)
            if isinstance(tokens, list):
                text, words = join_words([str(token) for token in tokens])
                found.setdefault((text, None), []).append(name)
                given[text, None] = words
    if not found:
        wanted = sorted({column for name in chosen for column in _columns(tasks[name])})
        raise DataError(f"{place}: holds no text for any of the tasks; accepted: {', '.join(wanted)}")
    return [
        Query(index, text, pair, _words(record, text, names, tasks, given.get((text, pair))), tuple(names))
        for (text, pair), names in found.items()
    ]


def shown(record: Record, queries: Sequence[Query]) -> str | tuple[str, str]:
    """Return a record's text (or pair) for people.

    Args:
        queries: the record's.
    """
    if isinstance(record, str | tuple):
        return record
    first = queries[0]
    return first.text if first.pair is None else (first.text, first.pair)


def _columns(task: Task) -> tuple[str, ...]:
    inputs = task.options.inputs
    return (inputs.first,) if inputs.second is None else (inputs.first, inputs.second)


def _words(
    record: Record, text: str, names: Sequence[str], tasks: Mapping[str, Task], given: list[Word] | None
) -> list[Word]:
    tagging = [name for name in names if tasks[name].level == "word"]
    if given is not None or not tagging:
        return given or []
    tokens = record.get(tasks[tagging[0]].options.tokens) if isinstance(record, Mapping) else None
    found = find_words(text, tokens) if isinstance(tokens, list) else None
    return split_words(text) if found is None else found


def _texts(record: Record, first: str, second: str | None, place: str) -> tuple[str, str | None] | None:
    """Return the text (and pair) that a task reads from a record, or None where the record does not hold it."""
    if isinstance(record, str):
        found = (record, None) if second is None else None
    elif isinstance(record, tuple):
        found = None if second is None else (record[0], record[1])
    elif second is None:
        text = record.get(first, record.get("text"))
        found = None if text is None else (text, None)
    else:
        found = (record[first], record[second]) if first in record and second in record else None
    for text in found or ():
        if text is not None and not isinstance(text, str):
            raise DataError(f"{place}: found {text!r}; a text is expected")
    if found is None:
        return None
    # Half of a surrogate pair is no character: the tokenizer would refuse the whole batch for it.
    clean = [None if text is None else text.encode("utf-8", "replace").decode() for text in found]
    return str(clean[0]), clean[1]
