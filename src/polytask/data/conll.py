"""CoNLL and CoNLL-U: one token per line with its columns, blank lines between sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from polytask.data.files import DataFile
from polytask.errors import DataError

_Line = tuple[int, str]
# An entity tag.
_TAG = re.compile(r"[BIESLUM]-\w")
# Number of lines that decide how many columns there are.
_PREVIEW = 1000
_DOCUMENT = re.compile(r"#\s?(?:begin|end) document\b")
_NEW_DOCUMENT = re.compile(r"-DOCSTART-(?:[ \t]|$)")
_BLANK_AFTER_MARK = re.compile(r"#(?:[ \t]|$)")
_COMMENTS = (
    "{count} lines that begin with # and have as many columns as a token were read as comments, the first at {place}"
)
_TOKENS = (
    "{count} lines that begin with # were read as tokens although no other line has their last column, the first at "
    "{place}; begin a comment with # and a space"
)
_ODD_COMMENTS = (
    "{count} lines that begin with # and have another number of columns were read as comments, the first at {place}"
)
_COUNTED = "the first column numbers the words of a sentence, so the second column was read as the tokens ({place})"
_ONE_SENTENCE = (
    "the file has no blank line, so all of its {tokens} words are one sentence ({{place}}); write a blank line "
    "after every sentence"
)
_OTHER_TAGS = (
    "the last column, which is the default of `tags`, holds no entity tags but for example {last}, and column {column} "
    "holds entity tags such as {tag}: name the right column in `tags` ({{place}})"
)
_TAGS_FIRST = (
    "the first column holds entity tags such as {tag}, and the last does not, so the first was read as the tags and "
    "the last as the tokens ({{place}})"
)
# A sentence with more words than this was hardly written as one.
_MOST_WORDS = 200
_HEADER = "the line at {place} was read as the column names"
# Header names of tokens, of numbers of tokens or sentences, and of tags.
_TOKEN_NAMES = frozenset(
    {"token", "tokens", "word", "words", "form", "text", "id", "index", "sentence", "sentence_id", "sentence #"}
)
_TAG_NAMES = frozenset(
    {"tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "ner-tag", "entity", "iob", "bio", "pos", "upos"}
)


def read_conll(file: DataFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read CoNLL: one token per line with its columns, blank lines between sentences, comments before a sentence.

    A row has `tokens` (the first column, or the second if the first numbers the words), `tags` (the last column), and
    every column under its number, from "1", and under its name in a header line. Of two columns of which only the first
    holds entity tags, that is `tags`.
    """
    lines = file.lines()
    preview = list(islice(lines, _PREVIEW))
    shape = _Shape(file, [line for _, line in preview])
    shape.remark_other_tags()
    sentences = words = 0
    for block in _blocks(chain(preview, lines)):
        rows = shape.tokens(block)
        if rows:
            sentences, words = sentences + 1, len(rows)
            columns = [list(column) for column in zip(*rows, strict=True)]
            by_number = {str(index): column for index, column in enumerate(columns, start=1)}
            by_name = dict(zip(shape.header, columns, strict=True)) if shape.header else {}
            yield block[0][0], {"tokens": columns[shape.first], "tags": columns[shape.tags], **by_number, **by_name}
    if sentences == 1 and words > _MOST_WORDS:
        file.remarks.add(_ONE_SENTENCE.format(tokens=words), str(file.path))


def _blocks(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Yield blocks of numbered lines between blank ones; a document separator ends a block too."""
    block: list[_Line] = []
    for numbered in lines:
        blank = not numbered[1].strip()
        if block and (blank or _NEW_DOCUMENT.match(numbered[1])):
            yield block
            block = []
        if not blank:
            block.append(numbered)
    if block:
        yield block


class _Shape:
    """How to split the lines of a CoNLL file into columns, and which lines are tokens.

    Attributes:
        width: number of columns.
        first: index of the column of the tokens.
        tags: index of the column of the tags.
        header: names of the columns, if the file has a header.
    """

    def __init__(self, file: DataFile, preview: Sequence[str]) -> None:
        self.file = file
        likely = [line for line in preview if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
        cells = [_cells(line) for line in likely or [line for line in preview if line.strip()]]
        self.width = max(2, _most_common(len(row) for row in cells))
        # A separator at the end of every line does not begin another column.
        while self.width > 2 and not any(row[-1] for row in cells if len(row) == self.width):
            self.width -= 1
        self.first = int(self.width > 2 and _counts_words(preview))
        if self.first:
            file.remarks.add(_COUNTED, str(file.path))
        self.header: list[str] = []
        self.tags = self.width - 1
        rows = [row[: self.width] for row in cells if len(row) >= self.width]
        rows = rows[1:] if rows and _is_header(rows[0]) else rows
        self._columns = [list(column) for column in zip(*rows, strict=True)]
        self._read_tags_first()
        self._tags = {row[self.tags] for row in rows}
        self._all_tags_known = False
        self._began = False

    def _read_tags_first(self) -> None:
        """Exchange tokens and tags if there are two columns, and only the first holds entity tags."""
        tag = _entity_tag(self._columns[0]) if len(self._columns) == 2 else None
        if tag is not None and _entity_tag(self._columns[1]) is None:
            self.first, self.tags = 1, 0
            self.file.remarks.add(_TAGS_FIRST.format(tag=tag), str(self.file.path))

    def remark_other_tags(self) -> None:
        """Add a note if entity tags are in another column than the last."""
        columns = self._columns
        if not self.tags or not columns or any(_TAG.match(cell) for cell in columns[-1]):
            return
        for number, column in enumerate(columns[:-1], start=1):
            tag = _entity_tag(column)
            if tag is not None:
                last = columns[-1][0].replace("{", "{{").replace("}", "}}")
                message = _OTHER_TAGS.format(last=last, column=number, tag=tag)
                self.file.remarks.add(message, str(self.file.path))

    def tokens(self, block: Sequence[_Line]) -> list[list[str]]:
        """Return the columns of each token of a sentence. Raises DataError for a line with more or fewer columns."""
        rows: list[list[str]] = []
        for number, line in block:
            cells = self._cut(line)
            self._require_columns_apart(number, line, cells)
            if not rows and (cells[0] == "-DOCSTART-" or self._is_comment(number, line, cells)):
                continue
            if _DOCUMENT.match(line):
                continue
            if len(cells) != self.width:
                raise DataError(
                    f"{self.file.place(number)}: found {len(cells)} columns, expected {self.width}: "
                    "a token and its tags on each line, a blank line between sentences, comments (#) before a sentence"
                )
            if not self._began:
                self._began = True
                if _is_header(cells):
                    self.header = cells
                    self.file.remarks.add(_HEADER, self.file.place(number))
                    continue
            rows.append(cells)
        return rows

    def _require_columns_apart(self, number: int, line: str, cells: Sequence[str]) -> None:
        """Raise DataError if a line is really several lines, or its tag several columns."""
        if "\r" in line:
            raise DataError(
                f"{self.file.place(number)}: the line holds a carriage return; save the file with line ends LF or CRLF"
            )
        if "\t" in line and len(cells) == 2 and " " in cells[1] and not line.startswith("#"):
            raise DataError(
                f"{self.file.place(number)}: found the tag {cells[-1]!r}; columns are separated by tabs or spaces, and "
                "this line has both"
            )

    def _cut(self, line: str) -> list[str]:
        cells = _cells(line)
        return cells[: self.width] if not any(cells[self.width :]) else cells

    def _is_comment(self, number: int, line: str, cells: Sequence[str]) -> bool:
        """Whether a line before the first token of a sentence is a comment; `#` and `#tag` may be tokens too."""
        if not line.startswith("#"):
            return False
        if _DOCUMENT.match(line) or len(cells) != self.width:
            if not _BLANK_AFTER_MARK.match(line) and not _DOCUMENT.match(line):
                self.file.remarks.add(_ODD_COMMENTS, self.file.place(number))
            return True
        if self._is_tag(cells[self.tags]):
            return False
        comment = _BLANK_AFTER_MARK.match(line) is not None
        self.file.remarks.add(_COMMENTS if comment else _TOKENS, self.file.place(number))
        return comment

    def _is_tag(self, cell: str) -> bool:
        """Whether a line that does not begin with # has this value in its last column."""
        if cell not in self._tags and not self._all_tags_known:
            for _, line in self.file.lines():
                if line.strip() and not line.startswith("#"):
                    self._tags.add(self._cut(line)[self.tags])
            self._all_tags_known = True
        return cell in self._tags


def _cells(line: str) -> list[str]:
    # Split at ASCII spaces only: a token may contain, or be, another kind of space.
    if "\t" in line:  # a space may be a token, but outer spaces are not part of a token
        return [cell.strip(" ") or cell for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _counts_words(lines: Sequence[str]) -> bool:
    """Whether the first column numbers the words from 1 in every sentence."""
    longest = 0
    for block in _blocks(enumerate(lines)):
        cells = [_cells(line) for _, line in block if not line.startswith(("#", "-DOCSTART-"))]
        numbers = [row[0] for row in cells if not _is_header(row)]
        if numbers != [str(number) for number in range(1, len(numbers) + 1)]:
            return False
        longest = max(longest, len(numbers))
    return longest > 1


def _entity_tag(column: Sequence[str]) -> str | None:
    """Return an entity tag of a column in which every value is one or O; None for other columns."""
    tag = next(filter(_TAG.match, column), None)
    return tag if "O" in column and all(cell == "O" or _TAG.match(cell) for cell in column) else None


def _most_common(widths: Iterable[int]) -> int:
    return max(Counter(widths).items(), key=lambda item: item[1], default=(0, 0))[0]


def _is_header(cells: Sequence[str]) -> bool:
    names = [cell.casefold() for cell in cells]
    named = names[0] in _TOKEN_NAMES and not _TAG_NAMES.isdisjoint(names[1:])
    tags_first = len(names) == 2 and names[0] in _TAG_NAMES and names[1] in _TOKEN_NAMES
    return tags_first or (named and not re.match(r"[BIOESLU](?:[-_]|$)", cells[-1]))


_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read_conllu(file: DataFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read CoNLL-U: the fields by name (`form`, `upos`, ...), `tokens` for `form`, and `text` from the comment.

    Lines of multi-word tokens (1-2) and empty nodes (1.1) are not words and are skipped. The first line of CoNLL-U Plus
    names other fields.
    """
    names = _CONLLU
    for block in _blocks(file.lines()):
        row: dict[str, Any] = {}
        words: list[list[str]] = []
        for number, line in block:
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                if key.strip() == "text":
                    row["text"] = value.strip()
                elif key.strip() == "global.columns":
                    names = _field_names(file.place(number), value)
                continue
            cells = line.split("\t")
            if "\r" in line:
                raise DataError(
                    f"{file.place(number)}: the line holds a carriage return; save the file with line ends LF or CRLF"
                )
            if len(cells) != len(names):
                raise DataError(
                    f"{file.place(number)}: found {len(cells)} fields, CoNLL-U has {len(names)}, separated by tabs"
                )
            if _is_word(file.place(number), cells[0]):
                words.append(cells)
        if words:
            fields = {name: list(column) for name, column in zip(names, zip(*words, strict=True), strict=True)}
            yield block[0][0], {**row, **fields, "tokens": fields["form"]}


def _field_names(place: str, value: str) -> tuple[str, ...]:
    names = tuple(value.lower().split())
    if names[:1] != ("id",) or "form" not in names or len(set(names)) != len(names):
        raise DataError(
            f"{place}: found the columns {value.strip()!r}; CoNLL-U Plus has ID first, FORM, and no name twice"
        )
    return names


def _is_word(place: str, identifier: str) -> bool:
    """Whether a line is a word, not a multi-word token or an empty node. Raises DataError on anything else."""
    if re.fullmatch(r"[0-9]+", identifier):
        return True
    if re.fullmatch(r"[0-9]+[-.][0-9]+", identifier):
        return False
    raise DataError(f"{place}: found {identifier!r} in the field ID; expected a word's number, such as 1, 1-2 or 1.1")
