"""Converts annotations of character spans, as annotation tools write them, to words and tags.

A span is `[start, end, label]` (doccano, spaCy) or an object with these keys (Prodigy, Label Studio, doccano's
relations, and polytask's own answers). Label Studio's tasks are converted to rows first.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.span_places import Annotation, place_span, require_characters
from polytask.data.words import find_words, split_words
from polytask.options import Offsets
from polytask.tasks.bio import Span
from polytask.tasks.cells import brief, shown_spans
from polytask.tasks.nested import join_spans
from polytask.terms import WordSpan

_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
_LABELS = ("label", "labels", "entity", "entity_group", "tag")

WIDENED = (
    "{count} spans cut a word and were widened to whole words, the first at {place}; `strict: true` next to the path "
    "refuses them"
)
ONE_SHORT = (
    "{count} spans end one character before the end of a word and were widened to it, the first at {place}; if the "
    "ends in the file include the last character, add 1 to all of them; `strict: true` next to the path refuses them"
)
REPEATED = "{count} spans occur twice and count once, the first at {place}"
SPACED = "{count} labels of spans begin or end with white space, which was left out, the first at {place}"
# The tag of a word in place of an entity type.
_WORD_TAG = re.compile(r"[BI]-[A-Z]")


@dataclass(frozen=True)
class TaggedWords:
    """The words of a text and their BIO tags.

    Attributes:
        remarks: notes on spans that were read differently from how they are written, one for each span.
    """

    tokens: list[str]
    tags: list[str]
    remarks: list[str]


def spans_in(cell: Any, tokens: Any) -> list[Any] | None:  # noqa: ANN401
    """Return the unparsed spans in a cell of tags; None if it holds something else.

    Args:
        tokens: the row's cell of tokens; if they are text, an empty list is a list of tags, not of spans.
    """
    if isinstance(cell, str):
        cell = shown_spans(cell)
    if not isinstance(cell, list):
        return None
    if any(isinstance(item, list | dict) for item in cell):
        return cell
    objects = isinstance(tokens, list) and tokens and all(isinstance(item, dict) for item in tokens)
    return None if cell or not (tokens is None or objects) else cell


def tag_words(
    text: str,
    spans: Sequence[Any],
    tokens: Any,  # noqa: ANN401
    *,
    strict: bool,
    offsets: Offsets | None = None,
) -> TaggedWords:
    """Return the words of a text with BIO tags according to the spans.

    Args:
        tokens: the row's tokens (text, or objects of Prodigy and spaCy); without tokens the text is split into words.
        strict: whether to refuse spans that cut a word.
        offsets: unit of the spans' offsets; by default characters, unless the spans' text shows another unit.

    Raises ValueError if spans lie outside the text, overlap or cannot be read.
    """
    words, placed, remarks = _spans_of_words(text, spans, tokens, strict=strict, offsets=offsets)
    tags = ["O"] * len(words)
    owners: dict[int, Annotation] = {}
    for span, first, end in placed:
        shared = next((word for word in range(first, end) if word in owners), None)
        if shared is not None and owners[shared] == span:
            remarks.append(REPEATED)
            continue
        if shared is not None:
            raise ValueError(
                f"the spans {owners[shared]} and {span} share the word {text[slice(*words[shared])]!r}; a word has one "
                "tag, so spans must not overlap; `type: spans` finds those that do"
            )
        owners.update(dict.fromkeys(range(first, end), span))
        tags[first:end] = [f"B-{span.label}", *[f"I-{span.label}"] * (end - first - 1)]
    return TaggedWords([text[start:end] for start, end in words], tags, remarks)


def nest_words(
    text: str,
    spans: Sequence[Any],
    tokens: Any,  # noqa: ANN401
    *,
    strict: bool,
    offsets: Offsets | None = None,
) -> TaggedWords:
    """Return the words of a text with its spans, which may overlap, in the form of `join_spans`.

    Arguments and errors are those of `tag_words`.
    """
    words, placed, remarks = _spans_of_words(text, list(_one_label_each(spans)), tokens, strict=strict, offsets=offsets)
    nested = [Span(span.label, first, end) for span, first, end in placed]
    multiline = next((span.label for span in nested if len(span.label.splitlines()) > 1), None)
    if multiline is not None:
        raise ValueError(f"found the label {multiline!r}; a label is one line")
    remarks += [REPEATED] * (len(nested) - len(set(nested)))
    return TaggedWords([text[start:end] for start, end in words], join_spans(nested, len(words)), remarks)


def _one_label_each(spans: Sequence[Any]) -> Iterator[Any]:
    """Yield spans with one label each: a span with several labels once for each of them."""
    for span in spans:
        name = next((name for name in _LABELS if name in span), None) if isinstance(span, dict) else None
        if name is not None and isinstance(span[name], list):
            yield from ({**span, name: label} for label in span[name])
        else:
            yield span


def _spans_of_words(
    text: str,
    spans: Sequence[Any],
    tokens: Any,  # noqa: ANN401
    *,
    strict: bool,
    offsets: Offsets | None,
) -> tuple[list[WordSpan], list[tuple[Annotation, int, int]], list[str]]:
    """Return the words of a text, the spans with the range of words that each covers, and notes for the user."""
    words = _words(text, tokens)
    annotations = sorted((_annotation(span) for span in spans), key=lambda span: (span.start, span.end))
    require_characters(text, words, annotations, offsets)
    remarks = [span.remark for span in annotations if span.remark is not None]
    placed: list[tuple[Annotation, int, int]] = []
    for annotation in annotations:
        span = place_span(text, annotation, offsets, remarks)
        first, end = _covered(words, span)
        if words[first][0] < span.start or words[end - 1][1] > span.end:
            if strict:
                word = _cut_word(words, first, end, span)
                raise ValueError(
                    f"the span {span} cuts the word {text[slice(*word)]!r}; move its end to that of the word"
                )
            is_short = words[first][0] == span.start and words[end - 1][1] == span.end + 1
            remarks.append(ONE_SHORT if is_short else WIDENED)
        placed.append((span, first, end))
    return words, placed, remarks


def _words(text: str, tokens: Any) -> list[WordSpan]:  # noqa: ANN401
    if tokens is None:
        return split_words(text)
    if isinstance(tokens, str):
        tokens = tokens.split()
    if not isinstance(tokens, list):
        raise ValueError(f"found {brief(tokens)} in place of tokens; expected a list")
    words = find_words(text, [_token_text(text, token) for token in tokens])
    if words is None:
        raise ValueError(
            "the tokens do not spell out the text that the spans refer to; leave out the column of tokens, "
            "and the text is split into words"
        )
    return words


def _token_text(text: str, token: Any) -> str:  # noqa: ANN401
    if isinstance(token, dict):
        start, end = _number(token.get("start")), _number(token.get("end"))
        token = token.get("text", None if start is None or end is None else text[start:end])
    if not isinstance(token, str):
        raise ValueError(
            f"found the token {brief(token)}; expected text, or an object with `text` or `start` and `end`"
        )
    return token


def _annotation(span: Any) -> Annotation:  # noqa: ANN401
    start = end = label = stated = None
    _require_one_piece(span)
    if isinstance(span, list) and len(span) == 3:
        start, end, label = span
    elif isinstance(span, dict):
        start, end, label = (next((span[name] for name in names if name in span), None) for names in _FIELDS)
        stated = span.get("text")
    if isinstance(label, list) and len(label) > 1:
        raise ValueError(
            f"the span {brief(span)} has {len(label)} labels; a word has one tag, so keep one label per span"
        )
    label = label[0] if isinstance(label, list) and label else label
    first, last = _number(start), _number(end)
    if first is None or last is None or not isinstance(label, str) or not label.strip():
        raise ValueError(
            f"found {brief(span)}; a span is [start, end, label], or an object with start, end and label: characters "
            "of the text from 0, the end not included"
        )
    wide = isinstance(span, dict) and "labels" in span
    kind = _entity_type(span, label)
    remark = SPACED if kind != label else None
    return Annotation(first, last, kind, stated if isinstance(stated, str) else None, wide, remark)


def _require_one_piece(span: Any) -> None:  # noqa: ANN401
    """Raise ValueError for a span of several parts."""
    parts = [value for value in span if isinstance(value, list)] if isinstance(span, list) else []
    if isinstance(span, dict):
        keys = ("fragments", "parts", *_STARTS, *_ENDS)
        parts = [span[key] for key in keys if isinstance(span.get(key), list)]
    if parts:
        raise ValueError(
            f"found {brief(span)}, a span of several parts; a span is one piece of the text: [start, end, label]; make "
            "each part a separate span, or leave it out"
        )


def _entity_type(span: Any, label: str) -> str:  # noqa: ANN401
    """Return the label of a span without outer spaces. Raises ValueError if it is the tag of a word."""
    kind = label.strip()
    if kind == "O":
        raise ValueError(
            f"the span {brief(span)} has the label 'O', which tags words outside of entities; leave it out"
        )
    if _WORD_TAG.match(kind):
        raise ValueError(
            f"the span {brief(span)} has the label {kind!r}, the tag of a word; one span covers a whole entity, and "
            f'its label is the type, such as {kind[2:]!r} (in transformers: aggregation_strategy="simple")'
        )
    return kind


_FIELDS = (_STARTS, _ENDS, _LABELS)


def _number(value: object) -> int | None:
    """Return a whole number; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _covered(words: Sequence[WordSpan], span: Annotation) -> tuple[int, int]:
    """Return the words that a span touches: the first, and the one after the last."""
    first = bisect_right(words, span.start, key=lambda word: word[1])
    end = bisect_left(words, span.end, key=lambda word: word[0])
    return first, end


def _cut_word(words: Sequence[WordSpan], first: int, end: int, span: Annotation) -> WordSpan:
    return words[first] if words[first][0] < span.start else words[end - 1]
