"""Detects tags of words: next to lists of tokens, in rows of one token each, or as spans of annotation tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from polytask.data.annotations import nest_words, spans_in, tag_words
from polytask.data.data_warnings import few, listed
from polytask.data.words import join_words
from polytask.errors import DataError
from polytask.init.column import Column
from polytask.init.sample import Sample
from polytask.options import Offsets
from polytask.tasks.bio import spans as flat_spans
from polytask.tasks.cells import brief
from polytask.tasks.nested import spans_of as nested_spans
from polytask.tasks.tag_scheme import find_scheme
from polytask.tasks.tagging import as_words, parted

_MOST_TAGS = 300
_TOKEN_NAMES = ("tokens", "words", "token", "word", "form")
# The column of spans that Label Studio's tasks have next to that of their control.
_ALL_SPANS = "spans"
# In CoNLL-U every field is a column of the tokens; the first of these that is filled is proposed.
_CONLLU_TAGS = ("upos", "xpos", "deprel")
_CONLL = ("conll", "conllu")
_WITHOUT_TOKENS = (
    "entity tags, as many as no other column has words in every row; write the words they belong to as a list, in a "
    "column `tokens`"
)


@dataclass(frozen=True)
class TagColumn:
    """A column of tags.

    Attributes:
        tags, tokens: names of the columns; tokens is None for character spans.
        options: options of the task.
        texts: a sample of the tagged texts.
        why: a comment with the reason.
        lone: whether the file holds only tokens.
        others: other columns that have a value for each token.
        nested: whether these are spans that may overlap.
    """

    tags: str
    tokens: str | None
    options: dict[str, Any]
    texts: list[str]
    why: str
    lone: bool = False
    others: list[str] = field(default_factory=list[str])
    nested: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns with values for tokens."""
        return [self.tags, *([self.tokens] if self.tokens is not None else []), *self.others]


@dataclass(frozen=True)
class ByToken:
    """The columns of a table with one token per row."""

    tokens: str
    tags: str
    sentence: str
    texts: list[str]
    why: str


def find_tagging(
    sample: Sample, columns: Mapping[str, Column], main: str | None
) -> tuple[list[TagColumn], dict[str, str]]:
    """Return the columns of tags, and the columns of spans that are left out, with the reason.

    Args:
        main: name of the text column, if there is one.
    """
    entities = [column.name for column in columns.values() if _marks_entities(column)]
    tokens = _token_column(sample, columns, entities)
    if tokens is not None:
        tag_columns = list(_columns_of_tags(sample, columns, tokens, entities))
        if tag_columns:
            return tag_columns, {}
    others = [column for column in columns.values() if main is not None and column.name != main]
    spans = {column.name: _spans(sample, column, main) for column in others}
    refused = {name: why for name, why in spans.items() if isinstance(why, str)}
    refused |= dict.fromkeys(entities, _WITHOUT_TOKENS)
    tag_columns = [tags for tags in spans.values() if isinstance(tags, TagColumn)]
    copies = _copies(sample, [tags.tags for tags in tag_columns])
    return [tags for tags in tag_columns if tags.tags not in copies], refused | copies


def _copies(sample: Sample, columns: Sequence[str]) -> dict[str, str]:
    """Return the columns of spans that repeat others, as those of Label Studio's only control do, with the reason."""
    cells = {name: [row.get(name) for row in sample.rows] for name in columns}
    # A column that also says which rows have no spans, `[]`, says more than one that lacks them.
    order = sorted(columns, key=lambda name: (cells[name].count(None), name != _ALL_SPANS))
    copies: dict[str, str] = {}
    for place, name in enumerate(order):
        first = next((other for other in order[:place] if _same_spans(cells[other], cells[name])), None)
        if first is not None:
            copies[name] = f"the same spans as in {first}"
    others = [name for name in columns if name != _ALL_SPANS and name not in copies]
    if _ALL_SPANS in cells and len(others) > 1:
        rows = zip(cells[_ALL_SPANS], *(cells[name] for name in others), strict=True)
        if all(not spans or spans in rest for spans, *rest in rows):
            copies[_ALL_SPANS] = f"the spans of {listed(others)}, in the rows that have only one of them"
    return copies


def _same_spans(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all((one or []) == (other or []) for one, other in zip(first, second, strict=True))


def _words(row: Mapping[str, Any], name: str) -> list[str] | None:
    try:
        return as_words(row.get(name), name)
    except ValueError:
        return None


def _token_column(sample: Sample, columns: Mapping[str, Column], entities: Sequence[str]) -> str | None:
    """Return the column of the tokens: lists, or texts with a tag for each word in another column."""
    if sample.format in _CONLL:
        return "tokens"
    lists = [column for column in columns.values() if column.lists is not None and column.name not in entities]
    lists = [column for column in lists if all(isinstance(item, str) for items in column.lists or () for item in items)]
    if lists:
        named = [column for column in lists if column.name.lower() in _TOKEN_NAMES]
        varied = max(lists, key=lambda column: len({item for items in column.lists or () for item in items}))
        return (named[0] if named else varied).name
    for column in columns.values() if entities else ():
        others = [name for name in entities if name != column.name]
        if column.texts and any(_aligned(sample, column.name, name) is not None for name in others):
            return column.name
    return None


def _marks_entities(column: Column) -> bool:
    """Whether a column holds entity tags, as lists or joined by spaces or commas."""
    if column.lists is not None:
        cells = column.lists
    else:
        separator = next((mark for mark in (" ", ",") if any(mark in text.strip() for text in column.texts)), None)
        cells = [text.split(None if separator == " " else separator) for text in column.texts if separator]
    tags = [tag for cell in cells for tag in cell]
    if not tags or not all(isinstance(tag, str) for tag in tags):
        return False
    counts = Counter(str(tag).strip() for tag in tags)
    return len(counts) <= _MOST_TAGS and "O" in counts and _are_entities(counts)


def _aligned(sample: Sample, tokens: str, tags: str) -> tuple[Counter[str], int] | None:
    """Return the counts of tags and the number of different tokens; None unless every token has one tag."""
    counts: Counter[str] = Counter()
    words: set[str] = set()
    for row in sample.rows:
        row_tokens, row_tags = _words(row, tokens), _words(row, tags)
        if row_tags is None and row.get(tags) in (None, ""):
            continue
        if row_tokens is None or row_tags is None:
            return None
        row_tags = parted(row_tags, len(row_tokens))
        if len(row_tokens) != len(row_tags):
            return None
        counts.update(row_tags)
        words.update(row_tokens)
    return (counts, len(words)) if counts else None


def _columns_of_tags(
    sample: Sample, columns: Mapping[str, Column], tokens: str, entities: Sequence[str]
) -> Iterator[TagColumn]:
    tag_counts: dict[str, Counter[str]] = {}
    aligned_columns: list[str] = []
    also: list[str] = []
    for name in columns:
        if sample.format == "conllu" and name not in (*_CONLLU_TAGS, "text"):
            aligned_columns += [name] if name != tokens else []
            continue
        # The text that the tokens were split from is not a list of tags.
        may_be = columns[name].lists is not None or name in entities
        aligned = _aligned(sample, tokens, name) if may_be and name != tokens else None
        if aligned is None:
            continue
        aligned_columns.append(name)
        counts, words = aligned
        if _are_tags(counts, words):
            tag_counts[name] = counts
    if sample.format == "conll":
        # The last column is called `tags`; if only another one holds entity tags, it is meant.
        found = [name for name, counts in tag_counts.items() if _are_entities(counts)]
        chosen = "tags" if "tags" in found or not found else found[0]
        also = [name for name in found if name.isdigit() and tag_counts[name] != tag_counts[chosen]]
        tag_counts = {name: counts for name, counts in tag_counts.items() if name == chosen}
    if sample.format == "conllu":
        tag_counts = dict(
            [next((name, tag_counts[name]) for name in _CONLLU_TAGS if name in tag_counts)] if tag_counts else []
        )
    texts = [join_words(words)[0] for row in sample.rows[:500] if (words := _words(row, tokens))]
    hint = f"; column {also[0]} holds entity tags too, which `tags: {also[0]!r}` reads" if also else ""
    for name, counts in tag_counts.items():
        options = {key: value for key, value in (("tokens", tokens), ("tags", name)) if value != key}
        rest = [other for other in aligned_columns if other not in tag_counts]
        yield TagColumn(name, tokens, options, texts, _why(counts) + hint, sample.format in _CONLL, rest)


def _are_tags(counts: Counter[str], words: int) -> bool:
    """Whether values of tokens are tags: few, and fewer than half of the different words."""
    if not 2 <= len(counts) <= _MOST_TAGS or "" in counts:
        return False
    return find_scheme(counts) is not None or 2 * len(counts) <= words


def _are_entities(counts: Counter[str]) -> bool:
    scheme = find_scheme(counts)
    return scheme is not None and not scheme.odd


def _why(counts: Counter[str]) -> str:
    scheme = find_scheme(counts)
    kind = f"entities, written as {scheme.name}" if scheme is not None and not scheme.odd else "one tag per word"
    total = counts.total()
    return f"{kind}: {few([f'{tag[:40]} {100 * count / total:.1f} %' for tag, count in counts.most_common()])}"


def _spans(sample: Sample, column: Column, main: str | None) -> TagColumn | str | None:
    """Return a column of character spans in the texts; None if it holds something else; a message if it is unreadable.

    Spans that share a word cannot be tags, and are read as nested spans.
    """
    if not any(isinstance(value, list | str) for value in column.values):
        return None
    rows = [(row.get(main or ""), row.get(column.name)) for row in sample.rows]
    rows = [(text, cell) for text, cell in rows if cell not in (None, "") and isinstance(text, str)]
    offsets = sample.written.offsets
    flat = _labels_of(rows, offsets, nested=False)
    labels = flat if isinstance(flat, Counter) else _labels_of(rows, offsets, nested=True)
    if not isinstance(labels, Counter):
        # Lists of something else fail too; a column is taken for spans if one of them could be read.
        return f"character spans, one of which cannot be read: {labels}" if labels else None
    if not labels:
        return None
    name = "tags" if isinstance(flat, Counter) else "spans"
    options = {} if column.name == name else {name: column.name}
    shared = "" if isinstance(flat, Counter) else "; some share a word, so they cannot be tags of words"
    counts = few([f"{label[:40]} {count}" for label, count in labels.most_common()])
    texts = [text for text, _ in rows[:500]]
    return TagColumn(column.name, None, options, texts, f"character spans: {counts}{shared}", nested=bool(shared))


def _labels_of(rows: Sequence[tuple[str, Any]], offsets: Offsets | None, *, nested: bool) -> Counter[str] | str:
    """Return the number of spans with each label in some cells, or a message if they cannot be read.

    Args:
        rows: texts with the cells of their spans.
        offsets: unit of the spans' offsets.

    The message is empty if the cells do not hold spans.
    """
    labels: Counter[str] = Counter()
    for text, cell in rows:
        try:
            spans = spans_in(cell, None)
            if spans is None:
                return ""
            tags = (nest_words if nested else tag_words)(text, spans, None, strict=False, offsets=offsets).tags
        except ValueError as error:
            return f"{error} (text: {brief(text)})" if labels or _look_like_spans(cell) else ""
        labels.update(span.label for span in (nested_spans(tags) if nested else flat_spans(tags)))
    return labels


def _look_like_spans(cell: Any) -> bool:  # noqa: ANN401
    """Whether the items of a cell are objects, or lists of two numbers and a text."""
    items = cell if isinstance(cell, list) else []
    return bool(items) and all(
        isinstance(item, dict)
        or (isinstance(item, list) and len(item) == 3 and sum(isinstance(part, int) for part in item) == 2)
        for item in items
    )


def sentence_column(sample: Sample) -> ByToken | None:
    """Return the columns of a table with one token per row; None for other tables.

    Raises DataError for such a table if no column tells where sentences begin.
    """
    rows = sample.first
    if len(rows) < 2 or sample.format in (*_CONLL,):
        return None
    cells = {name: [row.get(name) for row in rows] for name in sample.columns}
    single = {name: column for name, column in cells.items() if _is_one_word(column)}
    for tags in reversed(single):
        counts = Counter(str(value) for value in single[tags])
        if "O" not in counts or len(counts) > _MOST_TAGS or not _are_entities(counts):
            continue
        sentences = [name for name in cells if name != tags and _marks_sentences(cells[name])]
        words = [name for name in single if name not in (tags, *sentences)]
        if not words:
            continue
        named = [name for name in words if name.lower() in _TOKEN_NAMES]
        tokens = (named or sorted(words, key=lambda name: -len(set(single[name]))))[0]
        # Of documents and sentences, the sentences are more; a column of sentences may begin again in each document.
        sentences.sort(key=lambda name: -_runs(cells[name]))
        restarts = any("sent" in name.lower() for name in cells) and not any(
            "sent" in name.lower() for name in sentences
        )
        if sentences and not restarts:
            return ByToken(tokens, tags, sentences[0], _joined(rows, tokens, sentences[0]), _why(counts))
        if len(set(single[tokens])) > len(counts) and not any(_is_prose(column) for column in cells.values()):
            raise DataError(_without_sentences(sample, tokens, tags))
    return None


def _without_sentences(sample: Sample, tokens: str, tags: str) -> str:
    by_tabs = (sample.written.separator or ("\t" if sample.format == "tsv" else ",")) in ("\t", " ")
    conll = "if blank lines separate the sentences, add `--written format=conll`; otherwise " if by_tabs else ""
    return (
        f"{sample.path}: each row is one token ({tokens!r}) with its tag ({tags!r}), and no column numbers the "
        f"sentences of the whole file; {conll}add such a column, as `sentence`"
    )


def _is_prose(cells: Sequence[Any]) -> bool:
    """Whether most cells are texts of several words."""
    return 2 * sum(isinstance(cell, str) and cell.strip().count(" ") > 1 for cell in cells) > len(cells)


def _is_one_word(cells: Sequence[Any]) -> bool:
    return all(isinstance(cell, str) and cell.strip() and " " not in cell.strip() for cell in cells)


def _marks_sentences(cells: Sequence[Any]) -> bool:
    """Whether a column marks the first token of each sentence, or numbers the sentences of all tokens."""
    filled = [cell for cell in cells if cell not in (None, "")]
    if not filled or cells[0] in (None, ""):
        return False
    if len(filled) < len(cells):
        return 2 * len(filled) <= len(cells)
    runs = _runs(cells)
    return runs == len({str(cell) for cell in filled}) and runs > 1 and 2 * runs <= len(cells)


def _runs(cells: Sequence[Any]) -> int:
    """Return the number of runs of equal cells; an empty cell goes on with the one before."""
    return 1 + sum(cell != following and following not in (None, "") for cell, following in pairwise(cells))


def _joined(rows: Sequence[Mapping[str, Any]], tokens: str, sentence: str) -> list[str]:
    texts: list[list[str]] = []
    mark = None
    for row in rows:
        if not texts or row.get(sentence) not in (None, "", mark):
            texts.append([])
        mark = row.get(sentence) if row.get(sentence) not in (None, "") else mark
        texts[-1].append(str(row[tokens]))
    return [join_words(words)[0] for words in texts[:500]]
