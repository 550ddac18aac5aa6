"""BIO tags and the spans they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """An entity: its label and its words `first` up to, not including, `end`."""

    label: str
    first: int
    end: int


def is_bio(tags: Iterable[str]) -> bool:
    """Whether the tags are O, B-x and I-x only, with at least one that is not O."""
    marks = set(tags) - {"O"}
    return bool(marks) and all(tag[:2] in ("B-", "I-") for tag in marks)


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the entities under strict IOB2: one begins at B-, goes on through I- of its own label, and nothing else.

    An I- that continues nothing belongs to no entity.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC"])
    [Span(label='PER', first=0, end=2)]
    """
    found: list[Span] = []
    start, label = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if start >= 0 and tag != f"I-{label}":
            found.append(Span(label, start, index))
            start = -1
        if tag.startswith("B-"):
            start, label = index, tag[2:]
    return found


def repair(tags: Sequence[str]) -> tuple[list[str], int]:
    """Turn every I- that continues nothing into a B-, and count them.

    >>> repair(["I-PER", "I-PER", "I-LOC"])
    (['B-PER', 'I-PER', 'B-LOC'], 2)
    """
    mended: list[str] = []
    orphans = 0
    before = "O"
    for tag in tags:
        if tag.startswith("I-") and before not in (f"B-{tag[2:]}", tag):
            orphans += 1
            mended.append(f"B-{tag[2:]}")
        else:
            mended.append(tag)
        before = tag
    return mended, orphans


def confused_spans(truth: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Return (true label, label found) of the entities of a row, `O` where there is none with these ends.

    An entity found with another end counts as one that was missed and as one that is not there, as in the strict F1.

    >>> confused_spans(["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "I-ORG", "B-LOC", "O"])
    [('PER', 'ORG'), ('O', 'LOC'), ('LOC', 'O')]
    """
    true = {(span.first, span.end): span.label for span in spans(truth)}
    guessed = {(span.first, span.end): span.label for span in spans(found)}
    return [(true.get(ends, "O"), guessed.get(ends, "O")) for ends in sorted({*true, *guessed})]
