"""Words of rows: given tokens, or the words of a text with character spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.data.annotations import nest_words, spans_in, tag_words
from polytask.data.feed import Feed
from polytask.data.feed_columns import FeedColumns
from polytask.data.feed_counts import FeedCounts
from polytask.data.raw_row import RawRow, require_characters
from polytask.data.words import find_words, join_words
from polytask.errors import DataError
from polytask.tasks.cells import brief
from polytask.tasks.tagging import as_words
from polytask.tasks.word import WordOptions
from polytask.terms import Label


class WordReader:
    """Reads the words of rows, and assigns words and labels to rows."""

    def __init__(self, feed: Feed, counts: FeedCounts) -> None:
        self._feed, self._counts, self._columns = feed, counts, FeedColumns(feed, counts)

    def spelled(self, place: str, values: Mapping[str, Any]) -> str:
        """Return the text that the tokens of a row without text spell out."""
        for name, options in self._feed.tasks.items():
            assert isinstance(options, WordOptions)
            tokens = values.get(options.tokens)
            self.with_words(place, name, options, values, None)  # raises for spans without a text
            if tokens is not None:
                return join_words(self.words(place, name, options, values) or [])[0]
        column = min(task.tokens for task in self._feed.tasks.values() if isinstance(task, WordOptions))
        if column in values:
            raise DataError(f"{place}: {column!r} is empty, and so is {self._feed.inputs.first!r}; one is needed")
        raise self._columns.missing(DataError, place, column, list(values))

    def with_words(
        self, place: str, name: str, options: WordOptions, values: Mapping[str, Any], text: str | None
    ) -> Mapping[str, Any]:
        """Return a row with words and tags in place of a task's spans; rows without spans are returned unchanged."""
        if not options.reads_spans:
            return values
        tokens = values.get(options.tokens)
        try:
            # Nested spans are never one tag per word, so an empty list means no spans, whatever the tokens are.
            spans = spans_in(values.get(options.values_column), None if options.nested_spans else tokens)
            if spans is None:
                _require_tags(tokens, values.get(options.values_column))
                return values
            if text is None:
                raise ValueError(f"spans count the characters of a text, and {self._feed.inputs.first!r} is empty")
            convert = nest_words if options.nested_spans else tag_words
            tagged = convert(text, spans, tokens, strict=options.data.strict, offsets=options.data.offsets)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        self._counts.columns[options.tokens] = None
        for remark in tagged.remarks:
            self._counts.remarks.add(remark, place)
        # Rows rejected or ignored in Prodigy are not labelled.
        refused = values.get("answer") in ("reject", "ignore")
        return {**values, options.tokens: tagged.tokens, options.values_column: None if refused else tagged.tags}

    def words(self, place: str, name: str, options: WordOptions, values: Mapping[str, Any]) -> list[str] | None:
        try:
            tokens = as_words(values.get(options.tokens), options.tokens)
        except ValueError as error:
            raise DataError(f"{place}: task {name!r}: {error}") from None
        for token in tokens or ():
            require_characters(place, options.tokens, token)
        return tokens

    def add_words(
        self, rows: list[RawRow], place: str, pair: str | None, tokens: list[str] | None, name: str, label: Label
    ) -> None:
        """Assign a word-level label to a row whose words are its tokens, or to a separate row."""
        if tokens is None:
            return
        text, spelled = join_words(tokens)
        for row in rows:
            words = spelled if row.text == text else find_words(row.text, tokens)
            if words is not None and row.words in (None, words):
                row.words = words
                row.labels[name] = label
                return
        if rows and label is None:
            return
        if rows:
            self._counts.add_apart(place)
        rows.append(RawRow(place, text, pair, spelled, {name: label}))


def _require_tags(tokens: Any, tags: Any) -> None:  # noqa: ANN401
    """Raise ValueError if a tag is empty, or words and tags are joined by commas and would be read as one word."""
    if isinstance(tags, list) and "" in tags:
        raise ValueError(f"the tag of word {tags.index('') + 1} is empty; each token needs one tag")
    if isinstance(tokens, str) and isinstance(tags, str) and "[" not in (tokens[:1], tags[:1]):
        commas = tags.count(",")
        if commas and commas == tokens.count(",") and len(tokens.split()) == len(tags.split()) == 1:
            raise ValueError(
                f"found {brief(tokens)} with the tags {brief(tags)}, joined by commas; words and tags are joined by "
                'spaces, or written as lists, such as ["a", "b"]'
            )
