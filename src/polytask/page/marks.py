"""Entities in their text: what was true and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.page.block import MarkedText, Piece, tag_spans
from polytask.page.form import PredictionForm

Span = tuple[str, int, int]  # label, first and last word, counted from 0


def fits(row: PredictionForm) -> bool:
    """Whether a row holds tags of entities, and the place of each word in its text."""
    tags = (row.label, row.prediction)
    return row.words is not None and all(_are_tags(found) and len(found) == len(row.words) for found in tags)


def marked(row: PredictionForm) -> MarkedText:
    """Return the text with the true entities, and once more with those that were answered."""
    true, answered = (_spans(tags) for tags in (row.label, row.prediction))
    truth = _pieces(row, true, {span: "" if span in answered else "missed" for span in true})
    answer = _pieces(row, answered, {span: "" if span in true else "wrong" for span in answered})
    return MarkedText(f"{row.row}", truth, answer)


def _are_tags(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(
        isinstance(tag, str) and (tag == "O" or tag[:2] in ("B-", "I-")) for tag in value
    )


def _spans(tags: Sequence[str]) -> list[Span]:
    return [(label, first - 1, last - 1) for label, first, last in tag_spans(tags)]


def _pieces(row: PredictionForm, spans: Sequence[Span], tones: dict[Span, str]) -> list[Piece]:
    assert row.words is not None
    pieces: list[Piece] = []
    at = 0
    for span in spans:
        label, first, last = span
        start, end = row.words[first][0], row.words[last][1]
        if not at <= start < end <= len(row.text):  # the file holds the beginning of a long text
            continue
        pieces += [Piece(row.text[at:start]), Piece(row.text[start:end], label, tones[span])]
        at = end
    return [piece for piece in [*pieces, Piece(row.text[at:])] if piece.text]
