"""Proposes tasks for one table: its texts, and a task for each label column or the reason why it is not one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polytask.data.data_warnings import few
from polytask.data.paths import split_named
from polytask.data.words import split_words
from polytask.errors import DataError
from polytask.init.column import Column, columns_of
from polytask.init.label import judge_label
from polytask.init.sample import Sample
from polytask.init.tagged import ByToken, TagColumn, find_tagging, sentence_column
from polytask.init.text import scalar
from polytask.tasks.cells import brief
from polytask.tasks.indicators import mark_in
from polytask.tasks.joined_labels import ALL_SEPARATORS
from polytask.terms import Split

# Common names of text columns, the most likely first.
_TEXT_NAMES = (
    "text", "sentence", "review", "content", "body", "comment", "tweet", "utterance", "document", "article", "post",
    "message", "question", "query", "premise", "sentence1", "description", "abstract",
    "文本", "文本内容", "正文", "句子", "评论内容", "评论", "内容", "內容", "評論",
    "kommentar", "inhalt", "satz", "nachricht", "texte", "commentaire", "texto", "comentario", "testo",
)  # fmt: skip
_PAIRS = (
    ("premise", "hypothesis"), ("question", "context"), ("question", "passage"), ("question", "answer"),
    ("question", "sentence"), ("query", "document"), ("query", "passage"), ("query", "title"), ("source", "target"),
)  # fmt: skip
_ENDS = (("1", "2"), ("a", "b"), ("_left", "_right"), ("_first", "_second"))
# Task types whose labels are numbers.
_OF_NUMBERS = ("regression", "ordinal")
# Task types at word level, with the option that names their label column.
_OF_WORDS = {"tagging": "tags", "spans": "spans"}
# So many columns of marks may be the labels of one multi-label task.
_FEWEST_BINARY = 3
# Maximum number of different words in a column of splits.
_MOST_SPLIT_WORDS = 6
# Names of columns whose values can only be splits.
_SPLIT_COLUMNS = frozenset(
    {"split", "splits", "data_split", "dataset_split", "set", "subset", "partition", "usage", "part", "fold", "phase"}
)
# Maximum number of proposed tasks.
MOST_TASKS = 12


@dataclass(frozen=True)
class Proposal:
    """A task that a column can be trained for.

    Attributes:
        column: label column, which names the task.
        options: options of the task, without its data.
        why: a comment with the reason.
        written: options about the file's format that the file itself does not show.
    """

    column: str
    options: Mapping[str, Any]
    why: str
    written: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def columns(self) -> list[str]:
        """The columns that hold the labels."""
        if self.options["type"] in _OF_WORDS:
            name = _OF_WORDS[self.options["type"]]
            return [self.options.get(name, name)]
        return [self.options["label"]]

    @property
    def inputs(self) -> list[str]:
        """The columns that hold the texts."""
        return list(self.options.get("text_pair", (self.options["text"],) if "text" in self.options else ()))


@dataclass(frozen=True)
class TableOutline:
    """The tasks proposed for a table.

    Attributes:
        texts: a sample of the inputs.
        sentence: column that identifies sentences, if a row is one token.
        left_out: columns that no task reads, with the reason.
    """

    proposals: list[Proposal]
    texts: list[str]
    left_out: dict[str, str]
    sentence: str | None = None
    splits: tuple[str, frozenset[Split]] | None = None


def outline(sample: Sample) -> TableOutline:
    """Propose tasks for a table."""
    _require_names(sample)
    by_token = sentence_column(sample) if sample.written.sentence is None else None
    if by_token is not None:
        return _of_tokens(sample, by_token)
    columns = _columns(sample)
    splits = _split_column(sample, columns)
    if splits is not None:
        del columns[splits[0]]
    texts = _text_columns(columns)
    tag_columns, refused = find_tagging(sample, columns, texts[0].name if texts else None)
    of_tokens = {name for tags in tag_columns for name in tags.columns}
    texts = [column for column in texts if column.name not in of_tokens]
    tokens = next((tags.tokens for tags in tag_columns if tags.tokens is not None), None)
    main = texts[0].name if texts else tokens
    pair = _pair([column.name for column in texts])
    inputs: dict[str, Any] = {"text_pair": pair} if pair is not None else {"text": main} if main is not None else {}
    tagged = {"text": main} if texts else {}
    proposals = [
        Proposal(tags.tags, {"type": "spans" if tags.nested else "tagging", **tagged, **tags.options}, tags.why)
        for tags in tag_columns
    ]
    left_out = {
        name: "another value of each token" for tags in tag_columns for name in tags.others if not name.isdigit()
    }
    left_out |= refused
    used = {main, *(pair or ()), *of_tokens, *refused}
    left_out |= {text.name: "another text; to read it, name it in `text`" for text in texts if text.name not in used}
    rest = [column for column in columns.values() if column.name not in used and column.name not in left_out]
    for column in rest:
        labels = judge_label(column) if inputs else "no column holds texts"
        if main is not None and _is_first_row(main, column):
            raise DataError(
                f"{sample.path}: the first line seems to be a row ({brief(main)}, {column.name!r}) and not the names "
                "of the columns: add a first line with names, such as text,label"
            )
        if isinstance(labels, str):
            left_out[column.name] = labels
        else:
            proposals.append(Proposal(column.name, {**labels.head, **inputs, **labels.options}, labels.why))
    proposals = _with_hint_to_multilabel(proposals, columns)
    if main is not None and not proposals:
        left_out = {main: "holds the texts", **left_out}
    for surplus in proposals[MOST_TASKS:]:
        left_out[surplus.column] = f"could be a {surplus.options['type']} task; only {MOST_TASKS} are proposed"
    inputs_sample = _texts(columns, inputs, tag_columns)
    return TableOutline(_with_decimals(proposals[:MOST_TASKS], columns), inputs_sample, left_out, splits=splits)


def _with_hint_to_multilabel(proposals: Sequence[Proposal], columns: Mapping[str, Column]) -> list[Proposal]:
    """Add a comment to the first of several columns of marks, which may be the labels of one multi-label task."""
    binary = [
        proposal.column
        for proposal in proposals
        if proposal.column in columns and _holds_marks(columns[proposal.column])
    ]
    if len(binary) < _FEWEST_BINARY:
        return list(proposals)
    hint = (
        f"; {len(binary)} columns hold two marks such as 0 and 1, and each is a task of its own here; they can be the "
        f"labels of one task: `type: multilabel`, `label: [{', '.join(map(scalar, binary))}]`"
    )
    return [
        replace(proposal, why=proposal.why + hint) if proposal.column == binary[0] else proposal
        for proposal in proposals
    ]


def _holds_marks(column: Column) -> bool:
    """Whether a column holds 0 and 1, false and true, or no and yes."""
    return {mark_in(label) for label in column.labels or ()} == {False, True} and column.distinct == 2


def _split_column(sample: Sample, columns: Mapping[str, Column]) -> tuple[str, frozenset[Split]] | None:
    """Return the column that names the split of each row, if there is one. Raises DataError if it lacks some rows'."""
    for name, column in columns.items():
        if not column.texts or column.distinct > _MOST_SPLIT_WORDS:
            continue
        words: dict[str, Split | None] = {text: split_named(text) for text in column.labels or ()}
        named: frozenset[Split] = frozenset(split for split in words.values() if split is not None)
        if "train" not in named or len(named) < 2:
            continue
        unknown = [text for text, split in words.items() if split is None]
        complete = not unknown and len(column.texts) == column.rows
        if not complete and name.lower() not in _SPLIT_COLUMNS:
            continue
        if not complete:
            found = f"also {few([repr(text) for text in unknown])}" if unknown else "nothing in some rows"
            raise DataError(
                f"{sample.path}: the column {name!r} names the split of most rows ({few(sorted(named))}), and holds "
                f"{found}; write train, dev or test into every row, or delete the rows that belong to none"
            )
        return name, named
    return None


def _require_names(sample: Sample) -> None:
    """Raise DataError if the first line seems to be a title above the names of the columns."""
    first = sample.first[0]
    unnamed = [name for name in sample.columns[1:] if not name.strip()]
    if not unnamed or not all(isinstance(value, str) and value.strip() for value in first.values()):
        return
    names = [value.strip() for value in first.values()]
    others = [row.get(unnamed[-1]) for row in sample.first[1:]]
    is_label = len(set(map(str, others))) <= len(others) / 2 or all(_is_number(value) for value in others)
    if others and is_label and names[-1] not in others and not any(_is_number(name) for name in names):
        raise DataError(
            f"{sample.path}: the first line seems to be a title ({brief(sample.columns[0])}), and the second the names "
            f"of the columns ({', '.join(map(brief, names))}): delete the first line"
        )


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return re.fullmatch(r"[-+]?\d+([.,]\d+)?", str(value).strip()) is not None


def _is_first_row(text: str, other: Column) -> bool:
    """Whether two column names seem to be the first row: a sentence, and a value that fits the other column.

    That is a label that other rows have, or a number above a column of numbers.
    """
    name = other.name.strip()
    is_number = other.numbers is not None and _is_number(name)
    return (
        len(split_words(text)) > 2 and _rank(text) == len(_TEXT_NAMES) and (name in (other.labels or {}) or is_number)
    )


def _with_decimals(proposals: Sequence[Proposal], columns: Mapping[str, Column]) -> list[Proposal]:
    """Set the decimal comma of numbers: for all tasks, so that they share rows, unless other numbers have a point."""
    numbers = [columns[proposal.column] for proposal in proposals if proposal.options["type"] in _OF_NUMBERS]
    commas = {column.name for column in numbers if column.has_decimal_comma}
    if commas and not any(column.has_decimal_point for column in numbers):
        commas = {proposal.column for proposal in proposals}
    return [
        replace(proposal, written={"decimal": ","}) if proposal.column in commas else proposal for proposal in proposals
    ]


def _of_tokens(sample: Sample, columns: ByToken) -> TableOutline:
    """Return the proposal for a table with one token per row."""
    options = {"type": "tagging", "tokens": columns.tokens, "tags": columns.tags}
    used = (columns.tokens, columns.tags, columns.sentence)
    rest = [name for name in sample.columns if name not in used]
    left_out = dict.fromkeys(rest, "another value of each token; a separate tagging task can read it")
    return TableOutline([Proposal(columns.tags, options, columns.why)], columns.texts, left_out, columns.sentence)


def _columns(sample: Sample) -> dict[str, Column]:
    """Return the columns of a table: in place of one of objects, their values (meta.label), unless these are labels."""
    columns = columns_of(sample.rows, sample.columns)
    labels = tuple(f"{name}." for name, column in columns.items() if column.holds_objects_of_labels)
    return {
        name: column
        for name, column in columns.items()
        if not name.startswith(labels) and (f"{name}." in labels or not _is_nested(column))
    }


def _is_nested(column: Column) -> bool:
    """Whether all cells are objects."""
    return bool(column.values) and all(isinstance(value, dict) for value in column.values)


def _texts(columns: Mapping[str, Column], inputs: Mapping[str, Any], tag_columns: Sequence[TagColumn]) -> list[str]:
    """Return a sample of the tasks' inputs."""
    if "text_pair" in inputs:
        first, second = (columns[name].texts for name in inputs["text_pair"])
        return [f"{left} {right}" for left, right in zip(first[:500], second[:500], strict=False)]
    column = columns.get(inputs.get("text", ""))
    if column is not None and column.texts:
        return column.texts[:500]
    return next((tags.texts for tags in tag_columns), [])


def _pair(names: Sequence[str]) -> list[str] | None:
    """Return two columns whose names suggest a pair of texts."""
    lowered = {name.lower(): name for name in names}
    for first, second in _PAIRS:
        if first in lowered and second in lowered:
            return [lowered[first], lowered[second]]
    for low, name in lowered.items():
        for first, second in _ENDS:
            other = lowered.get(low.removesuffix(first) + second) if low.endswith(first) else None
            if other is not None:
                return [name, other]
    return None


def _text_columns(columns: Mapping[str, Column]) -> list[Column]:
    """Return the columns that hold texts, the most likely main text first."""
    texts = [column for column in columns.values() if _is_texts(column)]
    if not texts:
        texts = [column for column in columns.values() if _may_be_texts(column)]
    return sorted(texts, key=lambda column: (_rank(column.name), -column.mean_words))


def _rank(name: str) -> int:
    lowered = name.lower()
    return _TEXT_NAMES.index(lowered) if lowered in _TEXT_NAMES else len(_TEXT_NAMES)


def _is_not_prose(column: Column) -> bool:
    return (
        not column.texts or column.numbers is not None or bool(column.code) or column.lists is not None
        or column.distributions is not None or column.is_dates or column.is_addresses
    )  # fmt: skip


def _is_texts(column: Column) -> bool:
    """Whether the cells are texts: several words each, and mostly different."""
    if _is_not_prose(column):
        return False
    if _rank(column.name) < len(_TEXT_NAMES):
        return column.distinct > 1
    spaced = sum(not text.isascii() or " " in text.strip() for text in column.texts)
    if 2 * spaced < len(column.texts):
        return False  # paths and keys, whose marks would count as words
    varied = column.distinct > 200 or column.distinct >= 0.3 * len(column.values)
    return varied and column.mean_words >= 3 and not _is_joined(column)


def _may_be_texts(column: Column) -> bool:
    """Whether the cells are at least names or phrases."""
    return (
        not _is_not_prose(column) and not column.is_called_identifier
        and column.distinct >= 0.5 * len(column.values) and column.distinct > 2
    )  # fmt: skip


def _is_joined(column: Column) -> bool:
    """Whether the cells are labels joined by a separator: few different, frequent parts."""
    splits = [column.label_lists] if column.label_lists is not None else []
    splits += [[text.split(separator) for text in column.texts] for separator in ALL_SEPARATORS]
    for cells in splits:
        parts = [str(part).strip() for cell in cells for part in cell]
        if len(parts) > 1.2 * len(column.values) and len(set(parts)) <= len(parts) / 4:
            return True
    return False
