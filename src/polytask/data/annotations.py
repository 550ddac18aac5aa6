"""Annotations of spans by character, as annotation tools write them, and the words and tags that they stand for.

A span is `[start, end, label]` (doccano, spaCy) or an object with these (Prodigy, Label Studio, doccano's relations,
and polytask's own answers). Label Studio's tasks are unfolded into rows first.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from polytask.data.words import find_words, split_words
from polytask.options import Offsets
from polytask.tasks.bio import Span
from polytask.tasks.cells import brief
from polytask.tasks.nested import join_spans
from polytask.terms import WordSpan

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
CHARACTERS = "{count} spans count characters, and not what `offsets` says, and were read so, the first at {place}"
BYTES = "{count} spans count bytes of UTF-8 and were read so, the first at {place}"
SPACED = "{count} labels of spans begin or end with white space, which was left out, the first at {place}"
# Units in which spans may be counted, what is remarked of them, and how they are called.
_UNITS: dict[Offsets, tuple[str, str]] = {
    "utf-16": (JAVASCRIPT, "as JavaScript counts (an emoji is two)"),
    "utf-8": (BYTES, "in bytes of UTF-8"),
}
# A tag of one word in place of the type of an entity.
_WORD_TAG = re.compile(r"[BI]-[A-Z]")


@dataclass(frozen=True)
class Annotation:
    """A labelled part of a text.

    Attributes:
        text: what the annotation says stands there; None where it does not say.
        wide: whether it counts as JavaScript does, as in Label Studio, where the text does not tell.
        remark: what is to be said of its label.
    """

    start: int
    end: int
    label: str
    text: str | None = None
    wide: bool = False
    remark: str | None = None

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


def tag_words(
    text: str,
    spans: Sequence[Any],
    tokens: Any,  # noqa: ANN401
    *,
    strict: bool,
    offsets: Offsets | None = None,
) -> Tagged:
    """Return the words of a text and the BIO tags that spans give them.

    Args:
        tokens: the row's tokens (text, or objects of Prodigy and spaCy); without any the text is cut into words.
        strict: whether a span that cuts a word is refused.
        offsets: what the spans count; by default characters, unless their text tells another unit.

    Raises ValueError where spans lie outside of the text, overlap or are not to be read.
    """
    words, found, remarks = _spans_of_words(text, spans, tokens, strict=strict, offsets=offsets)
    tags = ["O"] * len(words)
    taken: dict[int, Annotation] = {}
    for span, first, end in found:
        shared = next((word for word in range(first, end) if word in taken), None)
        if shared is not None and taken[shared] == span:
            remarks.append(REPEATED)
            continue
        if shared is not None:
            raise ValueError(
                f"the spans {taken[shared]} and {span} share the word {text[slice(*words[shared])]!r}; a word has one "
                "tag, so spans must not overlap; `type: spans` finds those that do"
            )
        taken.update(dict.fromkeys(range(first, end), span))
        tags[first:end] = [f"B-{span.label}", *[f"I-{span.label}"] * (end - first - 1)]
    return Tagged([text[start:end] for start, end in words], tags, remarks)


def nest_words(
    text: str,
    spans: Sequence[Any],
    tokens: Any,  # noqa: ANN401
    *,
    strict: bool,
    offsets: Offsets | None = None,
) -> Tagged:
    """Return the words of a text and the spans that begin at each, as `join_spans` writes them; they may overlap.

    Arguments and errors as of `tag_words`.
    """
    words, found, remarks = _spans_of_words(text, list(_one_label_each(spans)), tokens, strict=strict, offsets=offsets)
    read = [Span(span.label, first, end) for span, first, end in found]
    broken = next((span.label for span in read if len(span.label.splitlines()) > 1), None)
    if broken is not None:
        raise ValueError(f"found the label {broken!r}; a label is one line")
    remarks += [REPEATED] * (len(read) - len(set(read)))
    return Tagged([text[start:end] for start, end in words], join_spans(read, len(words)), remarks)


def _one_label_each(spans: Sequence[Any]) -> Iterator[Any]:
    """Yield spans with one label, for those that have several once for each."""
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
    """Return the words of a text, the spans with the words that they cover, and what was read otherwise."""
    words = _words(text, tokens)
    annotations = sorted((_annotation(span) for span in spans), key=lambda span: (span.start, span.end))
    _require_characters(text, words, annotations, offsets)
    remarks = [span.remark for span in annotations if span.remark is not None]
    placed: list[tuple[Annotation, int, int]] = []
    for found in annotations:
        span = _placed(text, found, offsets, remarks)
        first, end = _covered(words, span)
        if words[first][0] < span.start or words[end - 1][1] > span.end:
            if strict:
                word = _cut_word(words, first, end, span)
                raise ValueError(f"the span {span} cuts the word {text[slice(*word)]!r}; move its end to the word's")
            remarks.append(WIDENED)
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
    _require_one_piece(span)
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
    if first is None or last is None or not isinstance(label, str) or not label.strip():
        raise ValueError(
            f"found {brief(span)}; a span is [start, end, label], or an object with start, end and label: characters "
            "of the text from 0, the end not included"
        )
    wide = isinstance(span, dict) and "labels" in span
    kind = _entity_type(span, label)
    remark = SPACED if kind != label else None
    return Annotation(first, last, kind, said if isinstance(said, str) else None, wide, remark)


def _require_one_piece(span: Any) -> None:  # noqa: ANN401
    """Raise ValueError for a span of several parts."""
    parts = [value for value in span if isinstance(value, list)] if isinstance(span, list) else []
    if isinstance(span, dict):
        keys = ("fragments", "parts", *_STARTS, *_ENDS)
        parts = [span[key] for key in keys if isinstance(span.get(key), list)]
    if parts:
        raise ValueError(
            f"found {brief(span)}, a span of several parts; a span is one piece of the text: [start, end, label]; give "
            "each part a span of its own, or leave it out"
        )


def _entity_type(span: Any, label: str) -> str:  # noqa: ANN401
    """Return the label of a span without outer spaces. Raises ValueError on the tag of a word."""
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


def _require_characters(
    text: str, words: Sequence[WordSpan], spans: Sequence[Annotation], offsets: Offsets | None
) -> None:
    """Raise ValueError where spans are whole words in another unit than the one that they are said to count.

    As characters they would be widened to words that they do not mean.
    """
    silent = [span for span in spans if span.text is None]
    if offsets is not None or not silent or text.isascii():
        return
    starts, ends = {start for start, _ in words}, {end for _, end in words}

    def fits(places: Sequence[tuple[int, int]]) -> bool:
        return all(start < end and start in starts and end in ends for start, end in places)

    if fits([(span.start, span.end) for span in silent]):
        return
    for unit, (_, called) in _UNITS.items():
        if fits([_in_characters(text, span, unit) for span in silent]):
            raise ValueError(
                f"the spans are no whole words when they count characters, and are when they count {called}; give "
                f"`offsets: {unit}` beside the path, or `offsets: characters` where they are right as they are"
            )


def _in_characters(text: str, span: Annotation, offsets: Offsets | None) -> tuple[int, int]:
    """Return the characters at which a span begins and ends; -1 in place of one that its unit does not reach."""
    if offsets is None or offsets == "characters":
        return span.start, span.end
    places = {unit: place for place, unit in enumerate(_units(text, offsets))}
    return places.get(span.start, -1), places.get(span.end, -1)


def _placed(text: str, span: Annotation, offsets: Offsets | None, remarks: list[str]) -> Annotation:
    """Return a span where it stands in the text, without white space at its ends. Raises ValueError outside of it."""
    start, end = _in_characters(text, span, offsets)
    if span.text is not None:
        start, end = _where_it_says(text, span, offsets, remarks)
    if not 0 <= start < end <= len(text):
        raise ValueError(_misplaced(text, span, offsets))
    inside = text[start:end]
    if not inside.strip():
        raise ValueError(f"the span {span} holds only white space")
    trimmed = Annotation(
        start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()), span.label
    )
    if (trimmed.start, trimmed.end) != (start, end):
        remarks.append(TRIMMED)
    return trimmed


def _misplaced(text: str, span: Annotation, offsets: Offsets | None) -> str:
    """Say why a span has no place in a text."""
    size = len(text) if offsets is None or offsets == "characters" else _units(text, offsets)[-1]
    if span.start == span.end:
        return f"the span {span} is empty; a span ends after its last character"
    if span.start > span.end:
        return f"the span {span} ends before it begins"
    if span.start >= 0 and span.end <= size:
        return f"the span {span} cuts a character in two, when it counts in {offsets}"
    unit = "characters" if offsets is None else f"units of {offsets}" if offsets != "characters" else offsets
    return f"the span {span} lies outside of the text, which has {size} {unit}"


def _where_it_says(text: str, span: Annotation, offsets: Offsets | None, remarks: list[str]) -> tuple[int, int]:
    """Return where the text of a span stands, in whatever unit it counts. Raises ValueError where it does not."""
    said = span.text or ""
    expected: Offsets = offsets or "characters"
    order: list[Offsets] = [*(["utf-16"] if span.wide else []), expected, "characters", *_UNITS]
    tried: set[tuple[int, int]] = set()
    for unit in order:
        start, end = place = _in_characters(text, span, unit)
        if place in tried:
            continue
        tried.add(place)
        if 0 <= start <= end <= len(text) and _alike(text[start:end], said):
            if place != _in_characters(text, span, expected):
                remarks.append(_UNITS[unit][0] if unit in _UNITS else CHARACTERS)
            return place
    start, end = place = _in_characters(text, span, expected)
    if not 0 <= start < end <= len(text):
        return place
    raise ValueError(f"the span {span} says {brief(said)}, and the text has {brief(text[start:end])} there")


def _units(text: str, offsets: Offsets) -> Sequence[int]:
    """Return where each character begins, and the text ends, in units of UTF-16 or UTF-8."""
    width, encoding = (2, "utf-16-le") if offsets == "utf-16" else (1, "utf-8")
    sizes = (len(character.encode(encoding, "surrogatepass")) // width for character in text)
    return list(accumulate(sizes, initial=0))


def _alike(first: str, second: str) -> bool:
    """Whether two texts are the same but for white space, which tools write in their own way."""
    return "".join(first.split()) == "".join(second.replace("\\n", "\n").split())


def _covered(words: Sequence[WordSpan], span: Annotation) -> tuple[int, int]:
    """Return the words that a span touches: the first, and the one after the last."""
    first = bisect_right(words, span.start, key=lambda word: word[1])
    end = bisect_left(words, span.end, key=lambda word: word[0])
    return first, end


def _cut_word(words: Sequence[WordSpan], first: int, end: int, span: Annotation) -> WordSpan:
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
            kind = str(item.get("type", "labels"))
            if kind.endswith("labels") and kind != "labels" and "start" in item["value"]:
                raise ValueError(
                    f"found a region of the kind {kind!r}, which is not read; Label Studio's <Labels> on a <Text> are"
                )
            controls.setdefault(str(item.get("from_name", "spans")), []).append(item["value"])
    return controls


def _is_control_of_spans(values: Sequence[Mapping[str, Any]]) -> bool:
    return all("labels" in value and "start" in value and "end" in value for value in values)
