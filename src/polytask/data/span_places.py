"""Places of annotated spans in a text: offsets in characters, UTF-16 or UTF-8, checked against the span's own text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from polytask.data.words import split_finely
from polytask.options import Offsets
from polytask.tasks.cells import brief
from polytask.terms import WordSpan

TRIMMED = "{count} spans begin or end with white space, which was left out, the first at {place}"
JAVASCRIPT = (
    "{count} spans count characters as JavaScript does (an emoji is two) and were read so, the first at {place}"
)
CHARACTERS = "{count} spans count characters, not the unit in `offsets`, and were read so, the first at {place}"
BYTES = "{count} spans count bytes of UTF-8 and were read so, the first at {place}"

# Other units of offsets, each with a note and a description.
_UNITS: dict[Offsets, tuple[str, str]] = {
    "utf-16": (JAVASCRIPT, "as JavaScript counts (an emoji is two)"),
    "utf-8": (BYTES, "in bytes of UTF-8"),
}


@dataclass(frozen=True)
class Annotation:
    """A labelled part of a text.

    Attributes:
        text: the annotated text according to the annotation; None if it is not given.
        wide: whether to assume JavaScript's offsets, as in Label Studio, if the text fits both.
        remark: note on its label.
    """

    start: int
    end: int
    label: str
    text: str | None = None
    wide: bool = False
    remark: str | None = None

    def __str__(self) -> str:
        return f"{self.label} at characters {self.start} to {self.end}"


def require_characters(
    text: str, words: Sequence[WordSpan], spans: Sequence[Annotation], offsets: Offsets | None
) -> None:
    """Raise ValueError if spans are whole words in another unit, but not in characters.

    Read as characters, they would be widened to the wrong words.
    """
    silent = [span for span in spans if span.text is None]
    if offsets is not None or not silent or text.isascii():
        return

    def fits(words: Sequence[WordSpan], places: Sequence[tuple[int, int]]) -> bool:
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        return all(start < end and start in starts and end in ends for start, end in places)

    # The name in @name or in a URL is part of a word, and a valid span.
    if fits([*words, *split_finely(text)], [(span.start, span.end) for span in silent]):
        return
    for unit, (_, description) in _UNITS.items():
        if fits(words, [_in_characters(text, span, unit) for span in silent]):
            raise ValueError(
                f"the spans are not whole words if they count characters, but are if they count {description}; give "
                f"`offsets: {unit}` next to the path (on a command line: --written offsets={unit}), or `offsets: "
                "characters` if they are right as they are"
            )


def _in_characters(text: str, span: Annotation, offsets: Offsets | None) -> tuple[int, int]:
    """Return the start and end of a span in characters; -1 for an offset that is not at a character."""
    if offsets is None or offsets == "characters":
        return span.start, span.end
    places = {unit: place for place, unit in enumerate(_units(text, offsets))}
    return places.get(span.start, -1), places.get(span.end, -1)


def place_span(text: str, span: Annotation, offsets: Offsets | None, remarks: list[str]) -> Annotation:
    """Return a span in characters, without outer white space. Raises ValueError if it lies outside the text."""
    start, end = _in_characters(text, span, offsets)
    if span.text is not None:
        start, end = _locate_text(text, span, offsets, remarks)
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
    """Return a message on why a span is not valid in a text."""
    size = len(text) if offsets is None or offsets == "characters" else _units(text, offsets)[-1]
    if span.start == span.end:
        return f"the span {span} is empty; a span ends after its last character"
    if span.start > span.end:
        return f"the span {span} ends before it begins"
    if span.start >= 0 and span.end <= size:
        return f"the span {span} cuts a character in two, when it counts in {offsets}"
    unit = "characters" if offsets is None else f"units of {offsets}" if offsets != "characters" else offsets
    return f"the span {span} lies outside the text, which has {size} {unit}"


def _locate_text(text: str, span: Annotation, offsets: Offsets | None, remarks: list[str]) -> tuple[int, int]:
    """Return the place of a span's text, trying all units. Raises ValueError if the text is at none of them."""
    stated = span.text or ""
    expected: Offsets = offsets or "characters"
    order: list[Offsets] = [*(["utf-16"] if span.wide else []), expected, "characters", *_UNITS]
    tried: set[tuple[int, int]] = set()
    for unit in order:
        start, end = place = _in_characters(text, span, unit)
        if place in tried:
            continue
        tried.add(place)
        if 0 <= start <= end <= len(text) and _alike(text[start:end], stated):
            if place != _in_characters(text, span, expected):
                remarks.append(_UNITS[unit][0] if unit in _UNITS else CHARACTERS)
            return place
    start, end = place = _in_characters(text, span, expected)
    if not 0 <= start < end <= len(text):
        return place
    raise ValueError(f"the span {span} says {brief(stated)}, but the text has {brief(text[start:end])} there")


def _units(text: str, offsets: Offsets) -> Sequence[int]:
    """Return the offset of each character, and of the end of the text, in units of UTF-16 or UTF-8."""
    width, encoding = (2, "utf-16-le") if offsets == "utf-16" else (1, "utf-8")
    sizes = (len(character.encode(encoding, "surrogatepass")) // width for character in text)
    return list(accumulate(sizes, initial=0))


def _alike(first: str, second: str) -> bool:
    """Whether two texts are the same but for white space, which tools write in their own way."""
    return "".join(first.split()) == "".join(second.replace("\\n", "\n").split())
