"""Annotations of spans by character, as annotation tools write them, and the words and tags that they stand for.

A span is `[start, end, label]` (doccano, spaCy) or an object with these (Prodigy, Label Studio, doccano's relations,
and polytask's own answers). Label Studio's tasks are unfolded into rows first.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from polytask.data.words import find_words, split_words
from polytask.tasks.cells import brief
from polytask.terms import Word

_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
_LABELS = ("label", "labels", "entity", "entity_group", "tag")

TRIMMED = "{count} spans begin or end with white space, which was left out, the first at {place}"
WIDENED = (
    "{count} spans cut a word and were widened to whole words, the first at {place}; `strict: true` beside the path "
    "refuses them"
)
REPEATED = "{count} spans are given twice and count once, the first at {place}"
JAVASCRIPT = (
    "{count} spans count characters as JavaScript does (an emoji is two) and were read so, the first at {place}"
)


@dataclass(frozen=True)
class Annotation:
    """A labelled part of a text.

    Attributes:
        text: what the annotation says stands there; None where it does not say.
        wide: whether it counts as JavaScript does, as in Label Studio, where the text does not tell.
    """

    start: int
    end: int
    label: str
    text: str | None = None
    wide: bool = False

    def __str__(self) -> str:
        return f"{self.label} at characters {self.start} to {self.end}"


@dataclass(frozen=True)
class Tagged:
    """The words of a text and their BIO tags.

    Attributes:
        remarks: what was read otherwise than it is written, once for each span.
    """

    tokens: list[str]
    tags: list[str]
    remarks: list[str]


def spans_in(cell: Any, tokens: Any) -> list[Any] | None:  # noqa: ANN401
    """Return the spans in a cell of tags, unparsed; None where it holds something else.

    Args:
        tokens: the row's cell of tokens: an empty list is a list of tags where the tokens are text.
    """
    if isinstance(cell, str) and cell.lstrip()[:1] == "[" and cell.lstrip()[1:].lstrip()[:1] in ("[", "{"):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise ValueError(f"found {brief(cell)}; spans are a JSON list") from None
    if not isinstance(cell, list):
        return None
    if any(isinstance(item, list | dict) for item in cell):
        return cell
    objects = isinstance(tokens, list) and tokens and all(isinstance(item, dict) for item in tokens)
    return None if cell or not (tokens is None or objects) else cell


def tag_words(text: str, spans: Sequence[Any], tokens: Any, *, strict: bool) -> Tagged:  # noqa: ANN401
    """Return the words of a text and the BIO tags that spans give them.

    Args:
        tokens: the row's tokens (text, or objects of Prodigy and spaCy); without any the text is cut into words.
        strict: whether a span that cuts a word is refused.

    Raises ValueError where spans lie outside of the text, overlap or are not to be read.
    """
    words = _words(text, tokens)
    tags = ["O"] * len(words)
    units = _javascript_units(text)
    remarks: list[str] = []
    taken: dict[int, Annotation] = {}
    for found in sorted((_annotation(span) for span in spans), key=lambda span: (span.start, span.end)):
        span = _placed(text, found, units, remarks)
        first, end = _covered(words, span)
        if words[first][0] < span.start or words[end - 1][1] > span.end:
            if strict:
                word = _cut_word(words, first, end, span)
                raise ValueError(f"the span {span} cuts the word {text[slice(*word)]!r}; move its end to the word's")
            remarks.append(WIDENED)
        shared = next((word for word in range(first, end) if word in taken), None)
        if shared is not None and taken[shared] == span:
            remarks.append(REPEATED)
            continue
        if shared is not None:
            raise ValueError(
                f"the spans {taken[shared]} and {span} share the word {text[slice(*words[shared])]!r}; a word has one "
                "tag, so spans must not overlap"
            )
        taken.update(dict.fromkeys(range(first, end), span))
        tags[first:end] = [f"B-{span.label}", *[f"I-{span.label}"] * (end - first - 1)]
    return Tagged([text[start:end] for start, end in words], tags, remarks)


def _words(text: str, tokens: Any) -> list[Word]:  # noqa: ANN401
    if tokens is None:
        return split_words(text)
    if isinstance(tokens, str):
        tokens = tokens.split()
    if not isinstance(tokens, list):
        raise ValueError(f"found {brief(tokens)} in place of tokens; expected a list")
    words = find_words(text, [_token_text(text, token) for token in tokens])
    if words is None:
        raise ValueError(
            "the tokens do not spell out the text in which the spans count characters; leave out the column of tokens, "
            "and the text is cut into words"
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
    start = end = label = said = None
    if isinstance(span, list) and len(span) == 3:
        start, end, label = span
    elif isinstance(span, dict):
        start, end, label = (next((span[name] for name in names if name in span), None) for names in _FIELDS)
        said = span.get("text")
    if isinstance(label, list) and len(label) > 1:
        raise ValueError(
            f"the span {brief(span)} has {len(label)} labels; a word has one tag, so keep one label a span"
        )
    label = label[0] if isinstance(label, list) and label else label
    first, last = _number(start), _number(end)
    if first is None or last is None or not isinstance(label, str) or not label:
        raise ValueError(
            f"found {brief(span)}; a span is [start, end, label], or an object with start, end and label: characters "
            "of the text from 0, the end not included"
        )
    wide = isinstance(span, dict) and "labels" in span
    return Annotation(first, last, label, said if isinstance(said, str) else None, wide)


_FIELDS = (_STARTS, _ENDS, _LABELS)


def _number(value: object) -> int | None:
    """Return a whole number; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _placed(text: str, span: Annotation, units: Sequence[int], remarks: list[str]) -> Annotation:
    """Return a span where it stands in the text, without white space at its ends. Raises ValueError outside of it."""
    start, end = span.start, span.end
    if span.text is not None:
        start, end = _where_it_says(text, span, units, remarks)
    if not 0 <= start < end <= len(text):
        what = "is empty" if start == end else "ends before it begins" if start > end else "lies outside of the text"
        raise ValueError(f"the span {span} {what}, which has {len(text)} characters")
    inside = text[start:end]
    if not inside.strip():
        raise ValueError(f"the span {span} holds only white space")
    trimmed = Annotation(
        start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()), span.label
    )
    if (trimmed.start, trimmed.end) != (start, end):
        remarks.append(TRIMMED)
    return trimmed


def _where_it_says(text: str, span: Annotation, units: Sequence[int], remarks: list[str]) -> tuple[int, int]:
    """Return where the text of a span stands: where it says, or there as JavaScript counts. Raises ValueError."""
    said = span.text or ""
    plain = (span.start, span.end)
    wide = (bisect_left(units, span.start), bisect_left(units, span.end)) if units else plain
    for start, end in (wide, plain) if span.wide else (plain, wide):
        if 0 <= start <= end <= len(text) and _alike(text[start:end], said):
            if (start, end) != plain:
                remarks.append(JAVASCRIPT)
            return start, end
    if not 0 <= span.start < span.end <= len(text):
        return plain
    raise ValueError(f"the span {span} says {brief(said)}, and the text has {brief(text[span.start : span.end])} there")


def _javascript_units(text: str) -> Sequence[int]:
    """Return where each character begins, and the text ends, in units of UTF-16; nothing where these are characters."""
    if not text or max(text) <= "\uffff":
        return ()
    return list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))


def _alike(one: str, other: str) -> bool:
    """Whether two texts are the same but for white space, which tools write in their own way."""
    return "".join(one.split()) == "".join(other.replace("\\n", "\n").split())


def _covered(words: Sequence[Word], span: Annotation) -> tuple[int, int]:
    """Return the words that a span touches: the first, and the one after the last."""
    first = bisect_right(words, span.start, key=lambda word: word[1])
    end = bisect_left(words, span.end, key=lambda word: word[0])
    return first, end


def _cut_word(words: Sequence[Word], first: int, end: int, span: Annotation) -> Word:
    return words[first] if words[first][0] < span.start else words[end - 1]


def row_of(value: dict[str, Any]) -> dict[str, Any]:
    """Return the row that a JSON object stands for: a task of Label Studio is unfolded, others stay as they are.

    A task gives the columns of its data, and for each control of its annotation (`from_name`) a column: spans, or
    choices. The spans of a task with one such control are also in the column `spans`. Raises ValueError where
    several annotations differ.
    """
    given = value.get("annotations", value.get("completions"))
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(given, list):
        return value
    row = {**({"id": value["id"]} if "id" in value else {}), **data}
    done = [
        _by_control(one["result"])
        for one in given
        if isinstance(one, dict) and isinstance(one.get("result"), list)
        and not one.get("was_cancelled") and not one.get("skipped")
    ]  # fmt: skip
    if not done:
        return row
    if any(one != done[0] for one in done):
        raise ValueError(f"found {len(done)} annotations of one text that differ; keep one of them")
    spans = {name: control for name, control in done[0].items() if _is_control_of_spans(control)}
    choices = {
        name: [choice for value in control for choice in value.get("choices", ())]
        for name, control in done[0].items()
        if name not in spans
    }
    row |= {name: chosen[0] if len(chosen) == 1 else chosen for name, chosen in choices.items() if chosen}
    row |= spans
    return {**row, "spans": next(iter(spans.values()), [])} if len(spans) < 2 else row


def _by_control(result: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    controls: dict[str, list[dict[str, Any]]] = {}
    for item in result:
        if isinstance(item, dict) and isinstance(item.get("value"), dict):
            controls.setdefault(str(item.get("from_name", "spans")), []).append(item["value"])
    return controls


def _is_control_of_spans(values: Sequence[Mapping[str, Any]]) -> bool:
    return all("labels" in value and "start" in value and "end" in value for value in values)
