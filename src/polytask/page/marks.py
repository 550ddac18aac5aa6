"""Entities marked in their text: true and predicted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.page.block import MarkedText, Piece
from polytask.page.form import PredictionForm
from polytask.page.wording import nested_spans, placed, tag_spans

Span = tuple[str, int, int]  # label, first and last word, counted from 0


def fits(row: PredictionForm) -> bool:
    """Whether a row contains entities or word spans, and the position of each word in its text."""
    both = (row.label, row.prediction)
    return row.words is not None and all(_spans(value) is not None and len(value) == len(row.words) for value in both)


def marked(row: PredictionForm) -> MarkedText:
    """Return the text with the true entities, and again with the predicted ones."""
    true, answered = (_spans(value) or [] for value in (row.label, row.prediction))
    truth = _pieces(row, {span: "" if span in answered else "missed" for span in true})
    answer = _pieces(row, {span: "" if span in true else "wrong" for span in answered})
    return MarkedText(placed(row.place, row.row), truth, answer)


def _spans(value: Any) -> list[Span] | None:  # noqa: ANN401
    """Return the spans of tags or nested spans; None if a value is neither."""
    spans = tag_spans(value) if _are_tags(value) else nested_spans(value)
    return None if spans is None else [(label, first - 1, last - 1) for label, first, last in spans]


def _are_tags(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(
        isinstance(tag, str) and (tag == "O" or tag[:2] in ("B-", "I-")) for tag in value
    )


def _pieces(row: PredictionForm, tones: Mapping[Span, str]) -> list[Piece]:
    """Return a text with nested marks; spans that overlap others partially follow at the end."""
    assert row.words is not None
    places: list[tuple[int, int, Span]] = []
    for span in tones:
        start, end = row.words[span[1]][0], row.words[span[2]][1]
        if 0 <= start < end <= len(row.text):  # the file contains only the beginning of a long text
            places.append((start, end, span))
    places.sort(key=lambda place: (place[0], -place[1]))
    overlapping: list[tuple[int, int, Span]] = []
    pieces = _within(row.text, (0, len(row.text)), places, tones, overlapping)
    for start, end, span in overlapping:
        pieces += [Piece(" + "), Piece(row.text[start:end], span[0], tones[span])]
    return pieces


def _within(
    text: str,
    inside: tuple[int, int],
    places: Sequence[tuple[int, int, Span]],
    tones: Mapping[Span, str],
    overlapping: list[tuple[int, int, Span]],
) -> list[Piece]:
    """Return a part of a text with its marks; partially overlapping spans are appended to `overlapping`."""
    pieces: list[Piece] = []
    at, number = inside[0], 0
    while number < len(places):
        start, end, span = places[number]
        follow = number + 1
        while follow < len(places) and places[follow][0] < end:
            follow += 1
        inner = [place for place in places[number + 1 : follow] if place[1] <= end]
        overlapping += [place for place in places[number + 1 : follow] if place[1] > end]
        within = _within(text, (start, end), inner, tones, overlapping) if inner else []
        pieces += [Piece(text[at:start]), Piece(text[start:end], span[0], tones[span], within)]
        at, number = end, follow
    return [piece for piece in [*pieces, Piece(text[at : inside[1]])] if piece.text]
