"""Records to predict, and the text (or pair) of a record that each task reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from polytask.data.words import find_words, join_words, split_words
from polytask.errors import DataError
from polytask.tabular import cells_of, is_nothing, plain
from polytask.tasks import Task
from polytask.tasks.cells import brief
from polytask.tasks.multiple_choice import options_in
from polytask.tasks.tagging import as_words
from polytask.terms import WordSpan

# A text, a pair of texts, or a row with the columns that the tasks were trained on. None, or NaN as in a DataFrame, in
# place of a text is an empty text, as an empty cell of a csv file is.
Record: TypeAlias = "str | tuple[str, str] | Mapping[str, Any]"


@dataclass(frozen=True)
class Query:
    """One encoding of a record and the tasks that read it.

    Attributes:
        record: index of the record in its block.
        options: the record's own options, by task that chooses among them.
    """

    record: int
    text: str
    pair: str | None
    words: list[WordSpan]
    tasks: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def queries_of(index: int, record: Record, tasks: Mapping[str, Task], chosen: Sequence[str], place: str) -> list[Query]:
    """Return a record's encodings: one for each text (or pair) that any of the chosen tasks reads.

    Raises DataError, naming the place, if there is none.
    """
    record = _read(record, place)
    names_by_texts: dict[tuple[str, str | None], list[str]] = {}
    words_by_texts: dict[tuple[str, str | None], list[WordSpan]] = {}
    options: dict[str, tuple[str, ...]] = {}
    spelled = _spelled(record, tasks, place)
    for name in chosen:
        task = tasks[name]
        if task.options_column is not None:
            row_options = _options(record, task, place)
            if row_options is None:
                continue
            options[name] = row_options
        inputs = task.options.inputs
        texts = _texts(spelled, inputs.first, inputs.second, place)
        if texts is not None:
            names_by_texts.setdefault(texts, []).append(name)
        else:
            tokens = _tokens(record, task, place)
            if tokens is None and _is_null(record, task):
                tokens = []
            if tokens is not None:
                text, words = join_words(tokens)
                names_by_texts.setdefault((text, None), []).append(name)
                words_by_texts[text, None] = words
    if not names_by_texts:
        _require_options(record, [tasks[name] for name in chosen], place)
        wanted = sorted({column for name in chosen for column in tasks[name].input_columns})
        columns = f"; found: {', '.join(list(record)[:20])}" if isinstance(record, Mapping) else ""
        columns += _other_half(record, [tasks[name] for name in chosen])
        raise DataError(f"{place}: holds no text for any of the tasks; accepted: {', '.join(wanted)}{columns}")
    return [
        Query(
            index,
            text,
            pair,
            _words(record, text, names, tasks, words_by_texts.get((text, pair)), place),
            tuple(names),
            {name: options[name] for name in names if name in options},
        )
        for (text, pair), names in names_by_texts.items()
    ]


def _read(record: Any, place: str) -> Record:  # noqa: ANN401
    """Return a record with plain values. Raises DataError for a value that is not a record."""
    if isinstance(record, Mapping):
        return cells_of({str(column): _cell(value) for column, value in record.items()})
    if isinstance(record, str):
        return str(record)
    if isinstance(record, tuple) and len(record) == 2:
        return _text(record[0]), _text(record[1])
    if record is None or is_nothing(record):
        return ""
    kind = f"a list of {len(record)}" if isinstance(record, list | tuple) else brief(record)
    raise DataError(
        f"{place}: found {kind}; expected a text, a tuple of two texts, or a row (a mapping of columns to values)"
    )


def _text(value: Any) -> Any:  # noqa: ANN401
    """Return an empty text in place of null; anything else unchanged."""
    return "" if value is None or is_nothing(value) else value


def _is_null(record: Record, task: Task) -> bool:
    """Whether a row without a text for a task has a column for it, whose cell is null."""
    columns = {task.options.inputs.first, "text"} if task.options.inputs.second is None else set[str]()
    columns |= {task.options.tokens} if task.level == "word" else set()
    return isinstance(record, Mapping) and not columns.isdisjoint(record)


def _cell(value: Any) -> Any:  # noqa: ANN401
    """Return a cell as a plain value; others than text, numbers and lists unchanged, since no task may read them."""
    try:
        return plain(value)
    except (ValueError, RecursionError):
        return value


def shown(record: Record, queries: Sequence[Query]) -> str | tuple[str, str]:
    """Return a record's text (or pair) for display.

    Args:
        record: the record.
        queries: its encodings.
    """
    if isinstance(record, str):
        return record
    if isinstance(record, tuple):
        return _text(record[0]), _text(record[1])
    first = queries[0]
    return first.text if first.pair is None else (first.text, first.pair)


def _other_half(record: Record, tasks: Sequence[Task]) -> str:
    """Return the end of a message if a row has one column of a pair: the names of the other ones."""
    pairs = [(task.options.inputs.first, task.options.inputs.second) for task in tasks]
    halves = [pair for pair in pairs if isinstance(record, Mapping) and len(record.keys() & set(pair)) == 1 and pair[1]]
    missing = sorted({str(column) for pair in halves for column in pair if column not in record})
    return f"; a pair needs both of its columns, and {', '.join(missing)} is missing" if missing else ""


def _require_options(record: Record, tasks: Sequence[Task], place: str) -> None:
    """Raise DataError if all tasks choose among options and a record has none."""
    columns = sorted({task.options_column for task in tasks if task.options_column is not None})
    if all(task.options_column is not None and _options(record, task, place) is None for task in tasks):
        raise DataError(f"{place}: has no options in {', '.join(map(repr, columns))}; expected a list of texts there")


def _options(record: Record, task: Task, place: str) -> tuple[str, ...] | None:
    """Return a row's own options for a task that chooses among them; None if the record has none."""
    column = task.options_column
    if column is None or not isinstance(record, Mapping) or record.get(column) is None:
        return None
    try:
        return options_in(record, column)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def _words(
    record: Record,
    text: str,
    names: Sequence[str],
    tasks: Mapping[str, Task],
    word_spans: list[WordSpan] | None,
    place: str,
) -> list[WordSpan]:
    tagging = [name for name in names if tasks[name].level == "word"]
    if word_spans is not None or not tagging:
        return word_spans or []
    tokens = _tokens(record, tasks[tagging[0]], place)
    spans = None if tokens is None else find_words(text, tokens)
    return split_words(text) if spans is None else spans


def _tokens(record: Record, task: Task, place: str) -> list[str] | None:
    """Return the words of a row for a word-level task, read as in training; None if the row has none."""
    if not isinstance(record, Mapping) or task.level != "word":
        return None
    column = task.options.tokens
    cell = record.get(column)
    if isinstance(cell, list) and cell and all(isinstance(token, Mapping) and "text" in token for token in cell):
        cell = [token["text"] for token in cell]  # the form of Prodigy
    try:
        words = as_words(cell, column)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None
    return None if words is None else [_clean(word) for word in words]


def _spelled(record: Record, tasks: Mapping[str, Task], place: str) -> Record:
    """Return a row in which a list of words in the text column is joined to a text."""
    if not isinstance(record, Mapping):
        return record
    for task in tasks.values():
        column = task.options.inputs.first
        if task.level == "word" and task.options.tokens == column and isinstance(record.get(column), list):
            return {**record, column: join_words(_tokens(record, task, place) or [])[0]}
    return record


def _clean(text: str) -> str:
    """Remove unpaired surrogates from a text, for which the tokenizer would reject the whole batch."""
    return text.encode("utf-8", "replace").decode()


def _texts(record: Record, first: str, second: str | None, place: str) -> tuple[str, str | None] | None:
    """Return the text (or pair) that a task reads from a record; None if the record does not contain it."""
    if isinstance(record, str):
        texts = (record, None) if second is None else None
    elif isinstance(record, tuple):
        texts = None if second is None else (record[0], record[1])
    elif second is None:
        text = record.get(first, record.get("text"))
        texts = None if text is None else (text, None)
    else:
        both = first in record and second in record
        texts = (_text(record[first]), _text(record[second])) if both else None
    for text in texts or ():
        if not isinstance(text, str) and (text is not None or second is not None):
            raise DataError(f"{place}: found {text!r}; a text is expected")
    if texts is None:
        return None
    first_text, second_text = texts
    return _clean(str(first_text)), None if second_text is None else _clean(str(second_text))
